//! Real shards on threads of their own, and shards whose peer is a scripted end of the mesh.

use std::{
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    thread::JoinHandle,
};

use monoio::time::sleep;

use super::*;
use crate::{
    domain::cache::KeyHash,
    handoff::{
        mailbox::{Order, Post, letterbox},
        mesh::mesh,
    },
    shard::{
        accept::{self, Listener, tests::parts},
        cache::Intent,
        connection::Door,
        runtime::{self, Choice},
    },
    sys::{bell::Bell, socket::listen_shared},
};

pub(in crate::shard) const LIMIT: Duration = Duration::from_secs(20);

/// A question that the owner answers at once, and that leaves nothing behind.
fn question(number: u64) -> Question {
    Question::Cache(cache::Question::Find {
        hash: KeyHash::new(number, number),
        intent: Intent::Alone,
    })
}

/// Says whether an asker has heard that nothing will come.
fn is_failure(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Failed))
}

fn is_answer(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Cache(cache::Answer::Alone { .. })))
}

/// A shard without a thread, and the ends of its peers.
pub(in crate::shard) fn staged(peers: usize) -> (Rc<Shard>, Vec<MeshEnd<Message>>) {
    let bells: Vec<_> = (0..=peers)
        .map(|_| Arc::new(Bell::new().unwrap()))
        .collect();
    let mut ends = mesh(&bells);
    let end = ends.remove(0);
    (Rc::new(Shard::new(parts(0, end))), ends)
}

/// Polls once.
pub(in crate::shard) fn poll<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Takes the next question that `end` was asked.
#[track_caller]
fn next_ticket(end: &mut MeshEnd<Message>) -> u64 {
    match end.take() {
        Some((0, Message::Ask { ticket, .. })) => ticket,
        other => panic!("no question: {other:?}"),
    }
}

fn alone(shard: &Rc<Shard>) -> Answer {
    let asker = Asker {
        shard: 0,
        ticket: 0,
    };
    let Question::Cache(question) = question(0);
    Answer::Cache(cache::answer(shard, asker, &question))
}

#[test]
fn a_shard_answers_itself_without_a_ring() {
    let (shard, mut peers) = staged(1);
    let mut asking = ask(&shard, 0, question(1));
    assert!(is_answer(poll(asking.answer(LIMIT)).unwrap().as_ref()));
    assert!(peers[0].take().is_none());
    assert_eq!(shard.mesh.counts(), MeshCounts::default());
}

#[test]
fn a_peer_that_never_answers_costs_the_limit_and_no_more() {
    const WAITING: usize = 10;
    let (shard, mut peers) = staged(1);
    let mut asking = ask(&shard, 1, question(1));
    assert!(poll(asking.answer(LIMIT)).is_none(), "it waits");
    assert!(poll(asking.answer(Duration::ZERO)).unwrap().is_none());
    // What it has no room for waits, in order, and goes with its asker.
    let mut askings = vec![asking];
    let more = 1..shard.mesh.open_max + WAITING;
    askings.extend(more.map(|_| ask(&shard, 1, question(2))));
    assert_eq!(shard.mesh.unsent.borrow().len(), WAITING);
    drop(askings.pop());
    retry(&shard);
    assert_eq!(shard.mesh.unsent.borrow().len(), WAITING - 1);
    // It comes back to life.
    for _ in 0..askings.len() {
        let ticket = next_ticket(&mut peers[0]);
        let answer = alone(&shard);
        peers[0]
            .reply(0, Message::Answer { ticket, answer })
            .unwrap();
        listen(&shard, 256);
        retry(&shard);
    }
    assert!(peers[0].take().is_none());
    for mut asking in askings {
        assert!(is_answer(poll(asking.answer(LIMIT)).unwrap().as_ref()));
    }
    assert_eq!(shard.mesh.counts().unasked, 0);
}

#[test]
fn questions_do_not_wait_without_bound() {
    let (shard, _peers) = staged(1);
    let askings: Vec<_> = (0..2 * UNSENT_MAX as u64)
        .map(|number| ask(&shard, 1, question(number)))
        .collect();
    assert_eq!(shard.mesh.unsent.borrow().len(), UNSENT_MAX);
    let refused = UNSENT_MAX - shard.mesh.open_max;
    assert_eq!(shard.mesh.counts().unasked, refused as u64);
    let mut last = askings.into_iter().next_back().unwrap();
    assert!(is_failure(poll(last.answer(LIMIT)).unwrap().as_ref()));
}

#[test]
fn a_peer_that_has_ended_gives_the_question_back_at_once() {
    let (shard, peers) = staged(2);
    let mut waiting = ask(&shard, 1, question(1));
    drop(peers);
    let mut asking = ask(&shard, 1, question(1));
    assert!(is_failure(poll(asking.answer(LIMIT)).unwrap().as_ref()));
    // The one that was under way comes to its limit.
    assert!(poll(waiting.answer(LIMIT)).is_none());
    assert!(poll(waiting.answer(Duration::ZERO)).unwrap().is_none());
    let notice = || {
        Notice::Cache(cache::Notice::Leave {
            hash: KeyHash::new(1, 1),
            asker: Asker {
                shard: 0,
                ticket: 1,
            },
        })
    };
    tell(&shard, 2, notice());
    tell(&shard, 9, notice());
    assert_eq!(shard.mesh.counts().lost, 2);
    assert!(shard.mesh.leave(), "it is the last one");
}

#[test]
fn a_shard_that_has_ended_asks_nobody() {
    let (shard, mut peers) = staged(1);
    shard.mesh.close();
    let mut asking = ask(&shard, 1, question(1));
    assert!(is_failure(poll(asking.answer(LIMIT)).unwrap().as_ref()));
    assert!(shard.mesh.leave() && shard.mesh.is_quiet());
    assert_eq!(listen(&shard, 256), 0);
    assert!(peers[0].offer(0, Message::Tell(later(1, &shard))).is_err());
}

fn later(ticket: u64, shard: &Rc<Shard>) -> Notice {
    Notice::Later {
        ticket,
        answer: alone(shard),
    }
}

#[test]
fn an_answer_to_an_old_question_is_none_to_a_new_one() {
    let (shard, mut peers) = staged(1);
    let asking = ask(&shard, 1, question(1));
    let old = next_ticket(&mut peers[0]);
    drop(asking);
    let mut asking = ask(&shard, 1, question(2));
    let new = next_ticket(&mut peers[0]);
    assert_eq!(old & 0xffff_ffff, new & 0xffff_ffff, "the same place");
    let answer = Answer::Failed;
    peers[0]
        .reply(
            0,
            Message::Answer {
                ticket: old,
                answer,
            },
        )
        .unwrap();
    assert_eq!(listen(&shard, 256), 1);
    assert!(poll(asking.answer(LIMIT)).is_none());
    assert_eq!(shard.mesh.counts().late, 1);
    let answer = alone(&shard);
    let message = Message::Answer {
        ticket: new,
        answer,
    };
    peers[0].reply(0, message).unwrap();
    listen(&shard, 256);
    assert!(is_answer(poll(asking.answer(LIMIT)).unwrap().as_ref()));
    // Tickets that never were, and an answer that nobody asked for.
    for ticket in [u64::MAX, 0, old, new + 1] {
        let answer = Answer::Failed;
        let message = Message::Answer { ticket, answer };
        peers[0].reply(0, message).unwrap();
    }
    assert_eq!(listen(&shard, 256), 4);
    assert!(poll(asking.answer(LIMIT)).is_none());
}

#[test]
fn a_promised_answer_comes_on_the_same_ticket() {
    let (shard, mut peers) = staged(1);
    let mut asking = ask(&shard, 1, question(1));
    let ticket = next_ticket(&mut peers[0]);
    let answer = Answer::Failed;
    let message = Message::Answer { ticket, answer };
    peers[0].reply(0, message).unwrap();
    listen(&shard, 256);
    assert!(matches!(
        poll(asking.answer(LIMIT)),
        Some(Some(Answer::Failed))
    ));
    assert!(poll(asking.answer(LIMIT)).is_none());
    peers[0]
        .offer(0, Message::Tell(later(ticket, &shard)))
        .unwrap();
    listen(&shard, 256);
    assert!(is_answer(poll(asking.answer(LIMIT)).unwrap().as_ref()));
}

#[test]
fn notices_that_find_no_room_are_sent_later_and_in_order() {
    const MANY: u64 = 3_000;
    let (shard, mut peers) = staged(2);
    let ended = |ticket| {
        Notice::Cache(cache::Notice::Leave {
            hash: KeyHash::new(ticket, 0),
            asker: Asker { shard: 0, ticket },
        })
    };
    let heard = |end: &mut MeshEnd<Message>| {
        let mut heard = Vec::new();
        while let Some((_, Message::Tell(Notice::Cache(notice)))) = end.take() {
            let cache::Notice::Leave { asker, .. } = notice else {
                panic!("another notice");
            };
            heard.push(asker.ticket);
        }
        heard
    };
    for ticket in 0..MANY {
        tell(&shard, 1, ended(ticket));
    }
    tell(&shard, 2, ended(7));
    let mut first = heard(&mut peers[0]);
    while first.len() < usize::try_from(MANY).unwrap() {
        let before = first.len();
        retry(&shard);
        first.extend(heard(&mut peers[0]));
        assert!(first.len() > before);
    }
    assert!(first.into_iter().eq(0..MANY));
    assert_eq!(heard(&mut peers[1]), [7]);
    // Without end nothing is kept.
    for ticket in 0..2 * UNSENT_MAX as u64 {
        tell(&shard, 1, ended(ticket));
    }
    assert!(shard.mesh.unsent.borrow().len() <= UNSENT_MAX);
    assert!(shard.mesh.counts().lost > 0);
}

/// Shards on threads, each with a listener of its own.
pub(in crate::shard) struct Town {
    posts: Vec<Post<Order>>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Town {
    /// Starts so many shards, each of which does `work` beside serving.
    pub(in crate::shard) fn start<W, F>(choice: Choice, shards: usize, work: W) -> Self
    where
        W: Fn(Rc<Shard>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        Self::start_with_guests(choice, shards, 0, work).0
    }

    /// The same, with so many ends of the mesh that are no shard's.
    fn start_with_guests<W, F>(
        choice: Choice,
        shards: usize,
        guests: usize,
        work: W,
    ) -> (Self, Vec<MeshEnd<Message>>)
    where
        W: Fn(Rc<Shard>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut town = Self {
            posts: Vec::new(),
            addresses: Vec::new(),
            threads: Vec::new(),
        };
        let letterboxes: Vec<_> = (0..shards).map(|_| letterbox().unwrap()).collect();
        let guest_bells = (0..guests).map(|_| Arc::new(Bell::new().unwrap()));
        let bells = letterboxes
            .iter()
            .map(|(_, letters)| Arc::clone(&letters.bell));
        let mut ends = mesh(&bells.chain(guest_bells).collect::<Vec<_>>());
        let guests = ends.split_off(shards);
        for (number, (end, (post, letters))) in ends.into_iter().zip(letterboxes).enumerate() {
            let socket = listen_shared("127.0.0.1:0".parse().unwrap(), 1)
                .unwrap()
                .remove(0);
            town.addresses.push(socket.local_addr().unwrap());
            town.posts.push(post);
            let work = work.clone();
            town.threads.push(std::thread::spawn(move || {
                let (mut runtime, _, _) = runtime::build(choice).unwrap();
                let ended = runtime.block_on(async {
                    let shard = Rc::new(Shard::new(parts(number, end)));
                    accept::spawn(&shard, work(Rc::clone(&shard)));
                    let door = Door {
                        loopback: true,
                        admin: false,
                    };
                    let tls = None;
                    let listener = Listener { socket, door, tls };
                    accept::run(shard, vec![listener], letters).await
                });
                std::mem::forget(runtime);
                ended.unwrap();
            }));
        }
        (town, guests)
    }

    pub(in crate::shard) fn order(&self, order: impl Fn() -> Order) {
        for post in &self.posts {
            assert!(post.send(order()).is_ok());
        }
    }

    pub(in crate::shard) fn join(self) {
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

pub(in crate::shard) fn on_both_drivers(test: impl Fn(Choice)) {
    test(Choice::Auto);
    test(Choice::Epoll);
}

#[test]
fn shards_that_sleep_between_questions_are_woken_every_time() {
    on_both_drivers(|choice| {
        let (done, finished) = mpsc::channel();
        let town = Town::start(choice, 2, move |shard| {
            let done = done.clone();
            async move {
                let peer = 1 - shard.number;
                for number in 0..2_000 {
                    let answer = ask(&shard, peer, question(number)).answer(LIMIT).await;
                    assert!(is_answer(answer.as_ref()), "question {number}");
                }
                done.send(()).unwrap();
            }
        });
        for _ in 0..2 {
            finished.recv().unwrap();
        }
        town.order(|| Order::Stop);
        town.join();
    });
}

#[test]
fn a_shard_is_woken_for_what_comes_while_it_falls_asleep() {
    on_both_drivers(|choice| {
        let (town, mut guests) = Town::start_with_guests(choice, 1, 1, |_| async {});
        let guest = &mut guests[0];
        let mut pause = 1u32;
        for number in 0..20_000 {
            // The second one comes at any moment of the turn that the first one takes.
            for ticket in [number, number + 1] {
                let question = question(number);
                guest.offer(0, Message::Ask { ticket, question }).unwrap();
                guest.ring();
                pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for _ in 0..pause >> 22 {
                    std::hint::spin_loop();
                }
            }
            let mut answers = 0;
            while answers < 2 {
                match guest.take() {
                    Some(_) => answers += 1,
                    None => std::thread::yield_now(),
                }
            }
        }
        town.order(|| Order::Stop);
        town.join();
    });
}

/// Asks its peers without a pause until `enough`.
async fn storm(shard: Rc<Shard>, answered: Arc<AtomicU64>, enough: Arc<AtomicBool>) {
    let mut number = 0;
    while !enough.load(Ordering::Relaxed) {
        number += 1;
        let to = (shard.number + 1) % shard.mesh.shards();
        if is_answer(
            ask(&shard, to, question(number))
                .answer(LIMIT)
                .await
                .as_ref(),
        ) {
            answered.fetch_add(1, Ordering::Relaxed);
        } else {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Starts a town in which every shard asks its neighbour some hundred things at a time.
fn stormy_town(choice: Choice) -> (Town, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (answered, enough) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let (counter, end) = (Arc::clone(&answered), Arc::clone(&enough));
    let town = Town::start(choice, 2, move |shard| {
        let (counter, end) = (Arc::clone(&counter), Arc::clone(&end));
        async move {
            for _ in 0..700 {
                let storm = storm(Rc::clone(&shard), Arc::clone(&counter), Arc::clone(&end));
                accept::spawn(&shard, storm);
            }
        }
    });
    (town, answered, enough)
}

fn wait_for(answered: &AtomicU64, count: u64) {
    while answered.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
}

fn request(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = b"GET /elsewhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_are_answered_while_messages_pass_without_end() {
    on_both_drivers(|choice| {
        let (town, answered, enough) = stormy_town(choice);
        wait_for(&answered, 1_000);
        // The storm goes on until these have their answers: starved of I/O, it would go on for ever.
        for _ in 0..20 {
            for address in &town.addresses {
                let answer = request(*address);
                assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
            }
        }
        wait_for(&answered, 100_000);
        enough.store(true, Ordering::Relaxed);
        town.order(|| Order::Stop);
        town.join();
    });
}

#[test]
fn requests_are_answered_by_a_shard_whose_rings_are_never_empty() {
    on_both_drivers(|choice| {
        let (town, mut guests) = Town::start_with_guests(choice, 1, 1, |_| async {});
        let (passed, enough) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, end) = (Arc::clone(&passed), Arc::clone(&enough));
        let flood = std::thread::spawn(move || {
            let mut number = 0;
            while !end.load(Ordering::Relaxed) {
                let ticket = number;
                let question = question(number);
                let sent = guests[0]
                    .offer(0, Message::Ask { ticket, question })
                    .is_ok();
                guests[0].ring();
                number += u64::from(sent);
                counter.store(number, Ordering::Relaxed);
                while guests[0].take().is_some() {}
            }
        });
        wait_for(&passed, 1_000);
        // The flood goes on until these have their answers.
        for _ in 0..20 {
            assert!(request(town.addresses[0]).starts_with("HTTP/1.1 40"));
        }
        wait_for(&passed, 100_000);
        enough.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        town.order(|| Order::Stop);
        town.join();
    });
}

#[test]
fn a_stop_in_the_middle_of_a_storm_is_obeyed() {
    on_both_drivers(|choice| {
        let (town, answered, enough) = stormy_town(choice);
        wait_for(&answered, 2_000);
        assert!(town.posts[0].send(Order::Stop).is_ok());
        // The other one goes on alone, and serves.
        assert!(request(town.addresses[1]).starts_with("HTTP/1.1 40"));
        enough.store(true, Ordering::Relaxed);
        assert!(town.posts[1].send(Order::Stop).is_ok());
        town.join();
    });
}

#[test]
fn a_drain_in_the_middle_of_a_storm_comes_to_its_end() {
    on_both_drivers(|choice| {
        let (town, answered, enough) = stormy_town(choice);
        wait_for(&answered, 2_000);
        town.order(|| Order::Drain);
        town.join();
        enough.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_shard_that_has_drained_answers_those_that_have_not() {
    on_both_drivers(|choice| {
        let (done, finished) = mpsc::channel();
        let town = Town::start(choice, 2, move |shard| {
            let done = done.clone();
            async move {
                while shard.number == 1 && !shard.is_draining() {
                    sleep(Duration::from_millis(1)).await;
                }
                for number in 0..100 {
                    if shard.number == 0 {
                        break;
                    }
                    // Long enough for the other to have found out that it could go.
                    sleep(Duration::from_millis(1)).await;
                    let answer = ask(&shard, 0, question(number)).answer(LIMIT).await;
                    assert!(is_answer(answer.as_ref()));
                }
                done.send(()).unwrap();
            }
        });
        // A request that has begun keeps its shard.
        let mut stream = TcpStream::connect(town.addresses[1]).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let answer = request(town.addresses[1]);
        assert!(answer.starts_with("HTTP/1.1 40"));
        town.order(|| Order::Drain);
        for _ in 0..2 {
            finished.recv().unwrap();
        }
        assert!(town.threads.iter().all(|thread| !thread.is_finished()));
        drop(stream);
        town.join();
    });
}
