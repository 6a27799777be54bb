//! The `resolve` threads: host names to addresses, as the system resolves them.
//!
//! The system's resolver blocks, and honours hosts file and name service switch; so it runs here
//! and never on a shard. Shards cache the answers.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::handoff::mailbox::{Letterbox, Order, Post, Question};

/// Look-ups at once: one dead name server must not hold up every other name.
const RESOLVERS: usize = 4;

/// Look-ups that wait. A shard asks once for a host, however many exchanges wait for it.
const WAITING_MAX: usize = 1024;

/// How often the threads look whether they are to end.
const LOOK: Duration = Duration::from_millis(500);

/// Addresses of one host that are tried; the rest is not kept.
const ADDRESSES_MAX: usize = 16;

/// The look-up threads; they end when this is dropped.
pub struct Resolvers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A question on its way to a look-up thread.
struct Lookup {
    shard: usize,
    host: Box<str>,
    port: u16,
}

impl Resolvers {
    /// Starts the threads. Questions come from `questions`, answers go to `shards`.
    pub fn start(questions: Letterbox<Question>, shards: Vec<Post<Order>>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = bounded(WAITING_MAX);
        let shards = Arc::new(shards);
        let mut threads = Vec::new();
        for number in 0..RESOLVERS {
            let (receiver, shards) = (receiver.clone(), Arc::clone(&shards));
            let builder = std::thread::Builder::new().name(format!("resolve-{number}"));
            threads.push(builder.spawn(move || look_up_all(&receiver, &shards))?);
        }
        let (stopped, answers) = (Arc::clone(&stop), shards);
        let builder = std::thread::Builder::new().name("resolve".to_owned());
        threads.push(builder.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(question) = questions.wait(LOOK) {
                    pass_on(question, &sender, &answers);
                }
            }
            // Dropping the sender ends the look-up threads.
        })?);
        Ok(Self { stop, threads })
    }
}

impl Drop for Resolvers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A look-up may hang for as long as the system lets it: threads are left to the exit.
        self.threads.clear();
    }
}

fn pass_on(question: Question, sender: &Sender<Lookup>, shards: &[Post<Order>]) {
    let Question::Resolve { shard, host, port } = question else {
        return;
    };
    let lookup = Lookup { shard, host, port };
    if let Err(TrySendError::Full(lookup) | TrySendError::Disconnected(lookup)) =
        sender.try_send(lookup)
    {
        let refused = Err("too many name look-ups at once".into());
        answer(shards, lookup.shard, lookup.host, refused);
    }
}

fn look_up_all(lookups: &Receiver<Lookup>, shards: &[Post<Order>]) {
    while let Ok(lookup) = lookups.recv() {
        let addresses = look_up(&lookup.host, lookup.port);
        answer(shards, lookup.shard, lookup.host, addresses);
    }
}

fn answer(
    shards: &[Post<Order>],
    shard: usize,
    host: Box<str>,
    addresses: Result<Vec<SocketAddr>, Box<str>>,
) {
    if let Some(post) = shards.get(shard) {
        // A full mailbox means a shard that no longer reads it; its exchanges time out.
        let _ = post.send(Order::Addresses { host, addresses });
    }
}

fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Box<str>> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = (name, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string().into_boxed_str())?
        .take(ADDRESSES_MAX)
        .collect();
    if found.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(interleave(found))
}

/// Alternates the families, the system's first choice first (RFC 8305 section 4), so that one
/// dead family costs one attempt and not all of its addresses.
fn interleave(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = (same.next(), other.next());
        if pair == (None, None) {
            return ordered;
        }
        ordered.extend(pair.0);
        ordered.extend(pair.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::mailbox::letterbox;

    #[test]
    fn families_alternate_and_the_first_stays_first() {
        let parse = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(parse);
        let ordered = interleave(found.to_vec());
        assert_eq!(
            ordered,
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(parse)
        );
    }

    #[test]
    fn a_name_is_looked_up_and_answered_to_who_asked() {
        let (ask, questions) = letterbox().unwrap();
        let (post, orders) = letterbox().unwrap();
        let _resolvers = Resolvers::start(questions, vec![post]).unwrap();
        for (host, good) in [("localhost", true), ("no-such-host.invalid", false)] {
            let host: Box<str> = host.into();
            assert!(
                ask.send(Question::Resolve {
                    shard: 0,
                    host,
                    port: 81
                })
                .is_ok()
            );
            let order = loop {
                if let Some(order) = orders.wait(Duration::from_secs(30)) {
                    break order;
                }
            };
            let Order::Addresses { addresses, .. } = order else {
                panic!("another order")
            };
            assert_eq!(addresses.is_ok(), good);
            assert!(
                addresses
                    .iter()
                    .flatten()
                    .all(|address| address.port() == 81)
            );
        }
    }
}
