"""The SDKs, as their documentation shows them; nothing is changed but the base URL.

Each class offers the same few calls, so that one test covers all. `usage` is what the SDK
reports: (input tokens, output tokens).
"""

import json
from dataclasses import dataclass

import anthropic
import cohere
import cohere.errors
import groq
import mistralai.client
import mistralai.client.errors
import openai
from google import genai
from google.genai import errors as gemini_errors
from google.genai import types as gemini_types

from stage import model_of

QUESTION = "What is the weather in Lisbon?"
TOOL = "get_weather"
TOOL_ABOUT = "Says what the weather is like."
TOOL_INPUT = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
# So many deltas are read before a caller leaves.
DELTAS_READ = 3


@dataclass
class Answer:
    text: str
    usage: tuple
    deltas: int = 1


class Sdk:
    """What every SDK here can do. `provider` is the slug in the URL."""

    name = ""
    provider = ""
    errors = {}  # status -> exception class

    def __init__(self, url, key):
        self.url = url
        self.key = key
        self.model = model_of(self.provider)
        self.client = self.connect()

    def status_of(self, error):
        return error.status_code


class OpenAi(Sdk):
    name = provider = "openai"
    errors = {
        401: openai.AuthenticationError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
    }

    def connect(self):
        # The SDK's own base URL ends in `/v1`.
        return openai.OpenAI(api_key=self.key, base_url=self.url + "/v1", max_retries=0)

    def create(self, suffix="", **more):
        return self.client.chat.completions.create(
            model=self.model + suffix,
            messages=[{"role": "user", "content": QUESTION}],
            **more,
        )

    def plain(self, suffix=""):
        answer = self.create(suffix)
        return Answer(answer.choices[0].message.content, self.usage(answer.usage))

    def stream(self, suffix=""):
        text, usage = [], None
        for event in self.create(suffix, stream=True, **self.stream_options()):
            text += [choice.delta.content or "" for choice in event.choices]
            usage = self.stream_usage(event) or usage
        return Answer("".join(text), usage, sum(map(bool, text)))

    def stream_options(self):
        return {"stream_options": {"include_usage": True}}

    def stream_usage(self, event):
        return event.usage and self.usage(event.usage)

    def usage(self, usage):
        return usage.prompt_tokens, usage.completion_tokens

    def leave(self, suffix):
        with self.create(suffix, stream=True) as stream:
            read(stream)

    def tool(self):
        tool = {"name": TOOL, "description": TOOL_ABOUT, "parameters": TOOL_INPUT}
        answer = self.create(tools=[{"type": "function", "function": tool}])
        call = answer.choices[0].message.tool_calls[0].function
        return call.name, json.loads(call.arguments), self.usage(answer.usage)


class OpenAiResponses(OpenAi):
    name = "openai-responses"

    def create(self, suffix="", **more):
        return self.client.responses.create(model=self.model + suffix, input=QUESTION, **more)

    def plain(self, suffix=""):
        answer = self.create(suffix)
        return Answer(answer.output_text, self.usage(answer.usage))

    def stream(self, suffix=""):
        text, usage = [], None
        for event in self.create(suffix, stream=True):
            if event.type == "response.output_text.delta":
                text.append(event.delta)
            if event.type == "response.completed":
                usage = self.usage(event.response.usage)
        return Answer("".join(text), usage, len(text))

    def usage(self, usage):
        return usage.input_tokens, usage.output_tokens

    def tool(self):
        tool = {"name": TOOL, "description": TOOL_ABOUT, "parameters": TOOL_INPUT}
        answer = self.create(tools=[{"type": "function", **tool}])
        call = next(item for item in answer.output if item.type == "function_call")
        return call.name, json.loads(call.arguments), self.usage(answer.usage)


class Groq(OpenAi):
    name = provider = "groq"
    errors = {
        401: groq.AuthenticationError,
        429: groq.RateLimitError,
        500: groq.InternalServerError,
    }

    def connect(self):
        # This SDK sends `/openai/v1/chat/completions` itself.
        return groq.Groq(api_key=self.key, base_url=self.url, max_retries=0)

    def stream_options(self):
        return {}

    def stream_usage(self, event):
        return event.x_groq and event.x_groq.usage and self.usage(event.x_groq.usage)


class Anthropic(Sdk):
    name = provider = "anthropic"
    errors = {
        401: anthropic.AuthenticationError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
    }

    def connect(self):
        return anthropic.Anthropic(api_key=self.key, base_url=self.url, max_retries=0)

    def arguments(self, suffix="", **more):
        return {
            "model": self.model + suffix,
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": QUESTION}],
            **more,
        }

    def plain(self, suffix=""):
        answer = self.client.messages.create(**self.arguments(suffix))
        text = "".join(part.text for part in answer.content if part.type == "text")
        return Answer(text, self.usage(answer.usage))

    def stream(self, suffix=""):
        with self.client.messages.stream(**self.arguments(suffix)) as stream:
            text = list(stream.text_stream)
            return Answer("".join(text), self.usage(stream.get_final_message().usage), len(text))

    def usage(self, usage):
        # This dialect counts cached tokens beside the input, not in it.
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return usage.input_tokens + cached, usage.output_tokens

    def leave(self, suffix):
        with self.client.messages.stream(**self.arguments(suffix)) as stream:
            read(stream.text_stream)

    def tool(self):
        tool = {"name": TOOL, "description": TOOL_ABOUT, "input_schema": TOOL_INPUT}
        answer = self.client.messages.create(**self.arguments(tools=[tool]))
        call = next(part for part in answer.content if part.type == "tool_use")
        return call.name, call.input, self.usage(answer.usage)


class AnthropicAuthToken(Anthropic):
    """The same SDK with the credential in `Authorization`."""

    name = "anthropic-auth-token"

    def connect(self):
        return anthropic.Anthropic(auth_token=self.key, base_url=self.url, max_retries=0)


class Gemini(Sdk):
    name = "gemini"
    provider = "google-ai-studio"
    errors = {
        401: gemini_errors.ClientError,
        429: gemini_errors.ClientError,
        500: gemini_errors.ServerError,
    }

    def connect(self):
        options = gemini_types.HttpOptions(base_url=self.url)
        return genai.Client(api_key=self.key, http_options=options)

    def plain(self, suffix="", **more):
        answer = self.client.models.generate_content(
            model=self.model + suffix, contents=QUESTION, **more
        )
        return Answer(answer.text, self.usage(answer.usage_metadata))

    def events(self, suffix):
        return self.client.models.generate_content_stream(
            model=self.model + suffix, contents=QUESTION
        )

    def stream(self, suffix=""):
        text, usage = [], None
        for event in self.events(suffix):
            text.append(event.text or "")
            usage = event.usage_metadata or usage
        return Answer("".join(text), self.usage(usage), sum(map(bool, text)))

    def usage(self, usage):
        return usage.prompt_token_count, (usage.candidates_token_count or 0) + (
            usage.thoughts_token_count or 0
        )

    def leave(self, suffix):
        events = self.events(suffix)
        read(events)
        events.close()

    def tool(self):
        declaration = gemini_types.FunctionDeclaration(
            name=TOOL, description=TOOL_ABOUT, parameters_json_schema=TOOL_INPUT
        )
        answer = self.client.models.generate_content(
            model=self.model,
            contents=QUESTION,
            config=gemini_types.GenerateContentConfig(
                tools=[gemini_types.Tool(function_declarations=[declaration])]
            ),
        )
        call = answer.function_calls[0]
        return call.name, call.args, self.usage(answer.usage_metadata)

    def status_of(self, error):
        return error.code


class Mistral(Sdk):
    name = provider = "mistral"
    errors = dict.fromkeys([401, 429, 500], mistralai.client.errors.SDKError)

    def connect(self):
        return mistralai.client.Mistral(api_key=self.key, server_url=self.url)

    def arguments(self, suffix="", **more):
        return {
            "model": self.model + suffix,
            "messages": [{"role": "user", "content": QUESTION}],
            **more,
        }

    def plain(self, suffix=""):
        answer = self.client.chat.complete(**self.arguments(suffix))
        return Answer(answer.choices[0].message.content, self.usage(answer.usage))

    def stream(self, suffix=""):
        text, usage = [], None
        with self.client.chat.stream(**self.arguments(suffix)) as events:
            for event in events:
                text += [choice.delta.content or "" for choice in event.data.choices]
                usage = event.data.usage or usage
        return Answer("".join(text), self.usage(usage), sum(map(bool, text)))

    def usage(self, usage):
        return usage.prompt_tokens, usage.completion_tokens

    def leave(self, suffix):
        with self.client.chat.stream(**self.arguments(suffix)) as events:
            read(events)

    def tool(self):
        tool = {"name": TOOL, "description": TOOL_ABOUT, "parameters": TOOL_INPUT}
        answer = self.client.chat.complete(
            **self.arguments(tools=[{"type": "function", "function": tool}])
        )
        call = answer.choices[0].message.tool_calls[0].function
        arguments = call.arguments
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        return call.name, arguments, self.usage(answer.usage)


class Cohere(Sdk):
    name = provider = "cohere"
    errors = {
        401: cohere.errors.UnauthorizedError,
        429: cohere.errors.TooManyRequestsError,
        500: cohere.errors.InternalServerError,
    }

    def connect(self):
        return cohere.ClientV2(api_key=self.key, base_url=self.url, max_retries=0)

    def arguments(self, suffix="", **more):
        messages = [cohere.UserChatMessageV2(content=QUESTION)]
        return {"model": self.model + suffix, "messages": messages, **more}

    def plain(self, suffix=""):
        answer = self.client.chat(**self.arguments(suffix))
        return Answer(answer.message.content[0].text, self.usage(answer.usage))

    def stream(self, suffix=""):
        text, usage = [], None
        for event in self.client.chat_stream(**self.arguments(suffix)):
            if event.type == "content-delta":
                text.append(event.delta.message.content.text)
            if event.type == "message-end":
                usage = self.usage(event.delta.usage)
        return Answer("".join(text), usage, len(text))

    def usage(self, usage):
        return int(usage.tokens.input_tokens), int(usage.tokens.output_tokens)

    def leave(self, suffix):
        events = self.client.chat_stream(**self.arguments(suffix))
        read(events)
        events.close()

    def tool(self):
        tool = {"name": TOOL, "description": TOOL_ABOUT, "parameters": TOOL_INPUT}
        answer = self.client.chat(
            **self.arguments(tools=[cohere.ToolV2(type="function", function=tool)])
        )
        call = answer.message.tool_calls[0].function
        return call.name, json.loads(call.arguments), self.usage(answer.usage)


class CohereV1(Cohere):
    name = "cohere-v1"

    def connect(self):
        return cohere.Client(api_key=self.key, base_url=self.url, max_retries=0)

    def arguments(self, suffix="", **more):
        return {"model": self.model + suffix, "message": QUESTION, **more}

    def plain(self, suffix=""):
        answer = self.client.chat(**self.arguments(suffix))
        return Answer(answer.text, self.usage(answer.meta))

    def stream(self, suffix=""):
        text, usage = [], None
        for event in self.client.chat_stream(**self.arguments(suffix)):
            if event.event_type == "text-generation":
                text.append(event.text)
            if event.event_type == "stream-end":
                usage = self.usage(event.response.meta)
        return Answer("".join(text), usage, len(text))

    def tool(self):
        city = cohere.ToolParameterDefinitionsValue(type="str", required=True)
        tool = cohere.Tool(
            name=TOOL, description=TOOL_ABOUT, parameter_definitions={"city": city}
        )
        answer = self.client.chat(**self.arguments(tools=[tool]))
        call = answer.tool_calls[0]
        return call.name, call.parameters, self.usage(answer.meta)


ALL = [OpenAi, OpenAiResponses, Anthropic, Gemini, Groq, Mistral, Cohere, CohereV1]
WITH_PROMPT_CACHE = [OpenAi, OpenAiResponses, Anthropic, Gemini]


def read(events):
    """Reads the first few events and leaves the rest."""
    for _, _ in zip(range(DELTAS_READ), events):
        pass
