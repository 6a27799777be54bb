//! What the demo prints: what it is, and snippets that work when pasted.

use std::net::SocketAddr;

use crate::cli::serve::intro::base;

/// The welcome, with the management token.
pub fn welcome(address: SocketAddr, token: &str, once: bool) -> String {
    let base = base(address, false);
    let end = if once {
        "A little traffic, and its records:"
    } else {
        "Records of a little traffic, and of yours (Ctrl-C ends the demo):"
    };
    WELCOME
        .replace("BASE", &base)
        .replace("TOKEN", token)
        .replace("END", end)
}

const WELCOME: &str = r#"This is tidegate on BASE, with a mock that plays the providers.
Nothing leaves this machine; any text will do as a key.

curl:

  curl BASE/v1/demo/default/openai/chat/completions \
    -H 'content-type: application/json' \
    -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'

Python (pip install openai anthropic):

  from openai import OpenAI
  client = OpenAI(base_url="BASE/v1/demo/default/openai", api_key="demo")
  answer = client.chat.completions.create(
      model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
  print(answer.choices[0].message.content)

  from anthropic import Anthropic
  client = Anthropic(base_url="BASE/v1/demo/default/anthropic", api_key="demo")
  answer = client.messages.create(
      model="claude-sonnet-4-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}])
  print(answer.content[0].text)

JavaScript (npm install openai, as an .mjs file):

  import OpenAI from "openai";
  const client = new OpenAI({ baseURL: "BASE/v1/demo/default/openai", apiKey: "demo" });
  const answer = await client.chat.completions.create({
    model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] });
  console.log(answer.choices[0].message.content);

Management token, for this demo only: TOKEN

  curl BASE/metrics -H 'authorization: Bearer TOKEN'

There is no dashboard yet; it will be at BASE/dashboard/.

END

"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_name_the_address_in_use() {
        let text = welcome("127.0.0.1:8787".parse().unwrap(), "tg_0123", false);
        insta::assert_snapshot!(text);
    }
}
