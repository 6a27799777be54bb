//! A little real traffic through the demo: each kind of call once, then one every other second.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::http_call::{self, Call};

/// One kind of call, and the status it has to end with.
struct Scene {
    name: &'static str,
    call: Call<'static>,
    status: u16,
}

/// The thread that sends.
pub struct Traffic {
    thread: JoinHandle<Sent>,
}

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Requests that the server saw.
    pub count: usize,
    /// What was answered otherwise than it should be, a line each.
    pub failures: Vec<String>,
}

impl Traffic {
    /// Starts to send; with `once` it is done after one round, else goes on until `stop`.
    pub fn start(address: SocketAddr, once: bool, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let send = move || {
            let mut sent = Sent::default();
            // Enough to be seen coming, one after the other.
            round(address, PAUSE, &stop, &mut sent);
            while !once && !stop.load(Ordering::Acquire) {
                wait(TRICKLE, &stop);
                round(address, TRICKLE, &stop, &mut sent);
            }
            sent
        };
        let thread = thread::Builder::new()
            .name("demo-traffic".to_owned())
            .spawn(send)?;
        Ok(Self { thread })
    }

    /// Whether everything was sent.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the call in flight.
    pub fn join(self) -> Sent {
        self.thread.join().unwrap_or_else(|_| Sent {
            count: 0,
            failures: vec!["the sender panicked".to_owned()],
        })
    }
}

/// Time between two calls of the first round.
const PAUSE: Duration = Duration::from_millis(150);

/// Time between two calls later on.
const TRICKLE: Duration = Duration::from_secs(2);

/// Time between two looks at `stop`.
const LOOK: Duration = Duration::from_millis(50);

/// Failures that are kept; a demo that runs for days has no use for more.
const FAILURES_MAX: usize = 20;

fn round(address: SocketAddr, pause: Duration, stop: &AtomicBool, sent: &mut Sent) {
    for scene in SCENES {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let wrong = match http_call::send(address, &scene.call) {
            Ok(status) if status == scene.status => None,
            Ok(status) => Some(format!(
                "{}: {status} instead of {}",
                scene.name, scene.status
            )),
            Err(error) => Some(format!("{}: {error}", scene.name)),
        };
        sent.count += 1;
        if sent.failures.len() < FAILURES_MAX {
            sent.failures.extend(wrong);
        }
        wait(pause, stop);
    }
}

fn wait(time: Duration, stop: &AtomicBool) {
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::Acquire) {
        let step = left.min(LOOK);
        thread::sleep(step);
        left -= step;
    }
}

/// The longest names come first, because the first records decide the widths of the table.
const SCENES: &[Scene] = &[
    scene(
        "embeddings",
        "/v1/demo/default/openai/embeddings",
        "",
        r#"{"model":"text-embedding-3-small","input":["ebb","flow"]}"#,
    ),
    scene(
        "generate",
        "/v1/demo/default/google-ai-studio/v1beta/models/gemini-2.5-flash:generateContent",
        "",
        r#"{"contents":[{"role":"user","parts":[{"text":"Why is the sea salty?"}]}]}"#,
    ),
    scene(
        "chat",
        "/v1/demo/default/openai/chat/completions",
        "cf-aig-metadata: {\"user\":\"ada\",\"team\":\"search\"}\r\n",
        r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"What is a tide gate?"}]}"#,
    ),
    scene(
        "stream",
        "/v1/demo/default/openai/chat/completions",
        "x-mock: events=24,event_delay=15\r\ncf-aig-metadata: {\"user\":\"grace\"}\r\n",
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Tell me about the sea, slowly."}]}"#,
    ),
    scene(
        "messages",
        "/v1/demo/default/anthropic/v1/messages",
        "anthropic-version: 2023-06-01\r\n",
        r#"{"model":"claude-sonnet-4-5","max_tokens":200,"messages":[{"role":"user","content":"Who was Ada Lovelace?"}]}"#,
    ),
    scene(
        "messages, streamed",
        "/v1/demo/default/anthropic/v1/messages",
        "anthropic-version: 2023-06-01\r\nx-mock: events=12,event_delay=10\r\n",
        r#"{"model":"claude-haiku-4-5","max_tokens":200,"stream":true,"messages":[{"role":"user","content":"A haiku, please."}]}"#,
    ),
    scene(
        "a provider of one's own",
        "/v1/demo/default/custom-demo/chat/completions",
        "",
        r#"{"model":"tide-1","messages":[{"role":"user","content":"Hello from a custom provider."}]}"#,
    ),
    Scene {
        status: 429,
        ..scene(
            "refused by the provider",
            "/v1/demo/default/anthropic/v1/messages",
            "anthropic-version: 2023-06-01\r\nx-mock: status=429\r\n",
            r#"{"model":"claude-sonnet-4-5","max_tokens":200,"messages":[{"role":"user","content":"One too many."}]}"#,
        )
    },
    Scene {
        status: 500,
        ..scene(
            "failed by the provider",
            "/v1/demo/default/openai/chat/completions",
            "x-mock: status=500\r\n",
            r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"This one fails."}]}"#,
        )
    },
    scene(
        "slow",
        "/v1/demo/default/openai/chat/completions",
        "x-mock: delay=1200\r\n",
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Think about it."}]}"#,
    ),
    Scene {
        name: "hung up",
        call: Call {
            path: "/v1/demo/default/openai/chat/completions",
            fields: "x-mock: events=400,event_delay=20\r\n",
            body: r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Count to a thousand."}]}"#,
            hang_up_after: Some(4096),
        },
        status: 200,
    },
];

const fn scene(
    name: &'static str,
    path: &'static str,
    fields: &'static str,
    body: &'static str,
) -> Scene {
    Scene {
        name,
        call: Call {
            path,
            fields,
            body,
            hang_up_after: None,
        },
        status: 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_and_fields_are_whole_lines() {
        for scene in SCENES {
            let body: serde_json::Value = serde_json::from_str(scene.call.body).unwrap();
            assert!(body.is_object(), "{}", scene.name);
            let fields = scene.call.fields;
            assert!(
                fields.is_empty() || fields.ends_with("\r\n"),
                "{}",
                scene.name
            );
        }
    }
}
