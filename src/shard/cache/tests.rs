//! The cache between shards: look-ups, flights and what becomes of them when somebody goes away.

use std::{
    future::Future,
    pin::pin,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
};

use monoio::time::sleep;

use super::{
    cached::FrontParts,
    key::{KeyParts, Offered},
    mesh::{
        Message,
        tests::{LIMIT, Town, on_both_drivers, poll, staged},
    },
    store::tests::of_parts,
    *,
};
use crate::{
    handoff::{counters::Plain, mailbox::Order},
    provider::address::Origin,
    shard::accept,
};

fn parts(origin: &Origin) -> KeyParts<'_> {
    KeyParts {
        account: b"acct",
        gateway: b"gw",
        revision: 0,
        provider: b"openai",
        method: b"POST",
        credential: None,
        offered: Offered::Nothing,
        custom: None,
        origin,
        path: b"/v1/chat/completions",
        fields: &[],
    }
}

/// The key of a request with such a body.
fn key(shard: &Shard, body: &str) -> Key {
    let origin = Origin::parse("https://api.openai.com").unwrap();
    let mut rows = shard.cache.rows.borrow_mut();
    let secret = &shard.cache.secret;
    let row = parts(&origin).row(secret, &mut rows, &mut Vec::new());
    row.key(secret, body.as_bytes()).0
}

/// The answer to the request with such a body.
fn answer_to(shard: &Shard, body: &str) -> Arc<Cached> {
    let key = key(shard, body);
    let parts = FrontParts {
        key: key.pieces(body.as_bytes()),
        gateway: "gw",
        provider: "openai",
        ..FrontParts::default()
    };
    of_parts(&parts, body.as_bytes())
}

/// Looks for the answer to the request with such a body.
async fn seek(shard: Rc<Shard>, body: String, intent: Intent, patience: Duration) -> Lookup {
    let key = key(&shard, &body);
    look(&shard, &key, body.as_bytes(), intent, patience).await
}

type Seeking = std::pin::Pin<Box<dyn Future<Output = Lookup>>>;

fn seeking(shard: &Rc<Shard>, patience: Duration) -> Seeking {
    let shard = Rc::clone(shard);
    Box::pin(seek(shard, "body".into(), Intent::Share, patience))
}

fn poll_once(seeking: &mut Seeking) -> Option<Lookup> {
    match pin!(seeking).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lookup) => Some(lookup),
        Poll::Pending => None,
    }
}

#[track_caller]
fn keeper(lookup: Option<Lookup>) -> Keeper {
    match lookup {
        Some(Lookup::Miss(Some(keeper))) => keeper,
        Some(Lookup::Miss(None)) => panic!("a miss without a keeper"),
        Some(Lookup::Hit(_) | Lookup::Live(..)) => panic!("a hit"),
        None => panic!("it waits"),
    }
}

#[track_caller]
fn is_hit(lookup: Option<Lookup>) -> bool {
    match lookup {
        Some(lookup) => matches!(lookup, Lookup::Hit(answer) if *answer.body() == *b"body"),
        None => panic!("it waits"),
    }
}

const TTL: Duration = Duration::from_mins(1);

#[test]
fn the_first_asks_and_the_others_wait_for_its_answer() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    assert!(leader.leads());
    let mut followers = [seeking(&shard, LIMIT), seeking(&shard, LIMIT)];
    assert!(followers.iter_mut().all(|it| poll_once(it).is_none()));
    assert_eq!(shard.cache.flights(), (1, 2));
    leader.keep(answer_to(&shard, "body"), TTL);
    assert!(followers.iter_mut().all(|it| is_hit(poll_once(it))));
    assert_eq!(shard.cache.flights(), (0, 0));
    assert!(is_hit(poll_once(&mut seeking(&shard, LIMIT))));
    assert_eq!(shard.cache.counts().inserts, 1);
}

#[test]
fn a_leader_that_is_dropped_hands_on_past_followers_that_are_gone() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut gone = seeking(&shard, LIMIT);
    let mut impatient = seeking(&shard, Duration::ZERO);
    let mut next = seeking(&shard, LIMIT);
    let mut last = seeking(&shard, LIMIT);
    assert!(poll_once(&mut gone).is_none());
    // Its patience is over before anything happened.
    assert!(matches!(
        poll_once(&mut impatient),
        Some(Lookup::Miss(None))
    ));
    assert!(poll_once(&mut next).is_none() && poll_once(&mut last).is_none());
    drop(gone);
    assert_eq!(shard.cache.flights(), (1, 2), "the gone do not follow");
    drop(leader);
    let next = keeper(poll_once(&mut next));
    assert!(next.leads() && poll_once(&mut last).is_none());
    next.keep(answer_to(&shard, "body"), TTL);
    assert!(is_hit(poll_once(&mut last)));
}

#[test]
fn a_lead_that_nobody_takes_is_handed_on() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut gone: Vec<_> = (0..500).map(|_| seeking(&shard, LIMIT)).collect();
    let mut last = seeking(&shard, LIMIT);
    for follower in &mut gone {
        assert!(poll_once(follower).is_none());
    }
    assert!(poll_once(&mut last).is_none());
    // They are told, but nobody looks: each hands on when it is dropped.
    drop(leader);
    drop(gone);
    assert!(keeper(poll_once(&mut last)).leads());
    assert_eq!(shard.cache.flights(), (0, 0));
}

#[test]
fn followers_of_what_is_not_kept_go_alone() {
    for end in [Keeper::not_kept, Keeper::failed] {
        let (shard, _) = staged(0);
        let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
        let mut follower = seeking(&shard, LIMIT);
        assert!(poll_once(&mut follower).is_none());
        end(leader);
        let alone = keeper(poll_once(&mut follower));
        assert!(!alone.leads());
        // It may keep what it gets all the same.
        alone.keep(answer_to(&shard, "body"), TTL);
        assert!(is_hit(poll_once(&mut seeking(&shard, LIMIT))));
    }
}

#[test]
fn a_flight_without_a_report_ends_by_the_tick() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut follower = seeking(&shard, LIMIT);
    assert!(poll_once(&mut follower).is_none());
    tick(&shard, shard.clock.now());
    assert!(poll_once(&mut follower).is_none());
    tick(&shard, shard.clock.now().after(flight::FLIGHT_LIMIT));
    assert!(!keeper(poll_once(&mut follower)).leads());
    // The report comes after all: the answer is kept.
    leader.keep(answer_to(&shard, "body"), TTL);
    assert!(is_hit(poll_once(&mut seeking(&shard, LIMIT))));
}

#[test]
fn an_answer_without_a_ttl_is_for_those_who_wait() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut follower = seeking(&shard, LIMIT);
    assert!(poll_once(&mut follower).is_none());
    leader.keep(answer_to(&shard, "body"), Duration::ZERO);
    assert!(is_hit(poll_once(&mut follower)));
    assert!(keeper(poll_once(&mut seeking(&shard, LIMIT))).leads());
}

#[test]
fn a_fresh_answer_takes_the_place_of_the_old_one() {
    let (shard, _) = staged(0);
    keeper(poll_once(&mut seeking(&shard, LIMIT))).keep(answer_to(&shard, "body"), TTL);
    let fresh = seek(Rc::clone(&shard), "body".into(), Intent::Fresh, LIMIT);
    let fresh = keeper(poll(fresh));
    assert!(!fresh.leads());
    let newer = answer_to(&shard, "body");
    fresh.keep(Arc::clone(&newer), TTL);
    match poll_once(&mut seeking(&shard, LIMIT)) {
        Some(Lookup::Hit(found)) => assert!(Arc::ptr_eq(&found, &newer)),
        _ => panic!("no hit"),
    }
}

#[test]
fn a_request_of_the_same_hash_but_another_key_is_a_miss() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut follower = seeking(&shard, LIMIT);
    assert!(poll_once(&mut follower).is_none());
    // No two such requests are known; so the entry has the key of another one.
    leader.keep(answer_to(&shard, "another body"), TTL);
    assert!(matches!(poll_once(&mut follower), Some(Lookup::Miss(None))));
    let mut later = seeking(&shard, LIMIT);
    assert!(matches!(poll_once(&mut later), Some(Lookup::Miss(None))));
}

#[test]
fn after_a_purge_old_answers_reach_nobody_who_asks_later() {
    let (shard, _) = staged(0);
    let leader = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    let mut before = seeking(&shard, LIMIT);
    assert!(poll_once(&mut before).is_none());
    shard.cache.purge(Purge::Gateway("gw".into()));
    let after = keeper(poll_once(&mut seeking(&shard, LIMIT)));
    assert!(!after.leads());
    leader.keep(answer_to(&shard, "body"), TTL);
    assert!(is_hit(poll_once(&mut before)), "it asked before");
    assert_eq!(shard.cache.counts().refused, 1);
    assert!(keeper(poll_once(&mut seeking(&shard, LIMIT))).leads());
}

/// A body whose key belongs to that shard of two.
fn body_owned_by(shard: &Shard, owner: usize) -> String {
    let mut bodies = (0..).map(|number: u32| format!("body {number}"));
    let owned = |body: &String| key(shard, body).hash.owner(2) == owner;
    bodies.find(owned).unwrap()
}

#[test]
fn a_lead_that_comes_too_late_is_given_back_to_its_owner() {
    let (shard, mut peers) = staged(1);
    let body = body_owned_by(&shard, 1);
    let mut seeking: Seeking = Box::pin(seek(Rc::clone(&shard), body, Intent::Share, LIMIT));
    assert!(poll_once(&mut seeking).is_none());
    let Some((0, Message::Ask { ticket, question })) = peers[0].take() else {
        panic!("no question");
    };
    let mesh::Question::Cache(question) = question;
    // What another owner would answer, this one does.
    let asker = Asker { shard: 0, ticket };
    let lead = answer(&shard, asker, &question);
    let Answer::Lead { flight, .. } = lead else {
        panic!("{lead:?}");
    };
    drop(seeking);
    let message = Message::Answer {
        ticket,
        answer: mesh::Answer::Cache(lead),
    };
    peers[0].reply(0, message).unwrap();
    assert_eq!(mesh::listen(&shard, 256), 1);
    let Some((
        0,
        Message::Tell(mesh::Notice::Cache(Notice::Ended {
            flight: given,
            ending,
            ..
        })),
    )) = peers[0].take()
    else {
        panic!("the lead is not given back");
    };
    assert_eq!((given, ending), (flight, Ending::Gone));
}

#[test]
fn a_follower_that_goes_away_says_so_to_its_owner() {
    let (shard, mut peers) = staged(1);
    let body = body_owned_by(&shard, 1);
    let mut seeking: Seeking = Box::pin(seek(Rc::clone(&shard), body, Intent::Share, LIMIT));
    assert!(poll_once(&mut seeking).is_none());
    let Some((0, Message::Ask { ticket, question })) = peers[0].take() else {
        panic!("no question");
    };
    let mesh::Question::Cache(question) = question;
    let asker = Asker { shard: 0, ticket };
    // The flight's id is any: it takes one to lead first.
    let Question::Find { hash, intent } = question else {
        panic!("another question");
    };
    answer(&shard, asker, &Question::Find { hash, intent });
    let follow = answer(&shard, asker, &Question::Find { hash, intent });
    let message = Message::Answer {
        ticket,
        answer: mesh::Answer::Cache(follow),
    };
    peers[0].reply(0, message).unwrap();
    mesh::listen(&shard, 256);
    assert!(poll_once(&mut seeking).is_none());
    drop(seeking);
    match peers[0].take() {
        Some((0, Message::Tell(mesh::Notice::Cache(Notice::Leave { asker: left, .. })))) => {
            assert_eq!(left, asker);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_that_its_owner_fails_over_is_answered_and_counted() {
    let (shard, mut peers) = staged(1);
    let ask = |peer: &mut crate::handoff::mesh::MeshEnd<Message>, ticket| {
        let question = mesh::Question::Cache(Question::Find {
            hash: KeyHash::new(1, 1),
            intent: Intent::Share,
        });
        peer.offer(0, Message::Ask { ticket, question }).unwrap();
    };
    let held = shard.cache.store.borrow_mut();
    ask(&mut peers[0], 7);
    assert_eq!(mesh::listen(&shard, 256), 1);
    drop(held);
    assert_eq!(shard.counters.borrow().plain(Plain::Panics), 1);
    match peers[0].take() {
        Some((
            0,
            Message::Answer {
                ticket: 7,
                answer: mesh::Answer::Failed,
            },
        )) => {}
        other => panic!("{other:?}"),
    }
    // The next one finds everything in order.
    ask(&mut peers[0], 8);
    mesh::listen(&shard, 256);
    match peers[0].take() {
        Some((
            0,
            Message::Answer {
                ticket: 8,
                answer: mesh::Answer::Cache(it),
            },
        )) => {
            assert!(matches!(it, Answer::Lead { .. }));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_call_answers_equal_requests_on_all_shards() {
    const EACH: u64 = 100;
    const KEYS: u64 = 10;
    on_both_drivers(|choice| {
        let calls = Arc::<AtomicU64>::default();
        let (done, finished) = mpsc::channel();
        let counter = Arc::clone(&calls);
        let town = Town::start(choice, 3, move |shard| {
            let (calls, done) = (Arc::clone(&counter), done.clone());
            async move {
                for number in 0..EACH {
                    let (calls, done) = (Arc::clone(&calls), done.clone());
                    let asker = Rc::clone(&shard);
                    accept::spawn(&shard, async move {
                        let body = format!("body {}", number % KEYS);
                        let seek = seek(Rc::clone(&asker), body.clone(), Intent::Share, LIMIT);
                        let body_of_hit: Box<[u8]> = match seek.await {
                            Lookup::Hit(found) => found.body().into(),
                            Lookup::Miss(Some(keeper)) if keeper.leads() => {
                                calls.fetch_add(1, Ordering::Relaxed);
                                sleep(Duration::from_millis(1)).await;
                                keeper.keep(answer_to(&asker, &body), TTL);
                                body.as_bytes().into()
                            }
                            Lookup::Miss(_) | Lookup::Live(..) => Box::default(),
                        };
                        done.send(*body_of_hit == *body.as_bytes()).unwrap();
                    });
                }
            }
        });
        for _ in 0..3 * EACH {
            assert!(finished.recv().unwrap(), "each gets its own answer");
        }
        assert_eq!(calls.load(Ordering::Relaxed), KEYS);
        town.order(|| Order::Stop);
        town.join();
    });
}

#[test]
fn an_order_to_forget_reaches_every_owner() {
    const KEYS: u64 = 20;
    on_both_drivers(|choice| {
        let (done, finished) = mpsc::channel();
        let town = Town::start(choice, 2, move |shard| {
            let done = done.clone();
            async move {
                let bodies: Vec<_> = (0..KEYS).map(|number| format!("body {number}")).collect();
                // One shard keeps them all, wherever they belong.
                let mut found = 0;
                while shard.number == 0 && found < KEYS {
                    found = 0;
                    for body in &bodies {
                        let seek = seek(Rc::clone(&shard), body.clone(), Intent::Alone, LIMIT);
                        match seek.await {
                            Lookup::Hit(_) => found += 1,
                            Lookup::Miss(Some(keeper)) => keeper.keep(answer_to(&shard, body), TTL),
                            Lookup::Miss(None) => panic!("the owner says nothing"),
                            Lookup::Live(..) => panic!("nobody leads"),
                        }
                    }
                }
                done.send(()).unwrap();
                while shard.number == 0 && found > 0 {
                    found = 0;
                    for body in &bodies {
                        let seek = seek(Rc::clone(&shard), body.clone(), Intent::Alone, LIMIT);
                        found += u64::from(matches!(seek.await, Lookup::Hit(_)));
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                done.send(()).unwrap();
            }
        });
        for _ in 0..3 {
            finished.recv().unwrap();
        }
        // Three words: both of the shard that does nothing, and the first of the other.
        town.order(|| Order::Forget(Purge::Gateway("gw".into())));
        finished.recv().unwrap();
        town.order(|| Order::Stop);
        town.join();
    });
}

#[test]
fn leaders_that_go_away_on_any_shard_leave_nobody_waiting() {
    const EACH: u64 = 40;
    on_both_drivers(|choice| {
        let (done, finished) = mpsc::channel();
        let leads = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&leads);
        let town = Town::start(choice, 2, move |shard| {
            let (leads, done) = (Arc::clone(&counter), done.clone());
            async move {
                for _ in 0..EACH {
                    let (leads, done) = (Arc::clone(&leads), done.clone());
                    let asker = Rc::clone(&shard);
                    accept::spawn(&shard, async move {
                        let seek = seek(Rc::clone(&asker), "body".into(), Intent::Share, LIMIT);
                        let found = seek.await;
                        let is_lead = match &found {
                            Lookup::Hit(_) | Lookup::Live(..) => false,
                            Lookup::Miss(keeper) => keeper.as_ref().is_some_and(Keeper::leads),
                        };
                        leads.fetch_add(u64::from(is_lead), Ordering::Relaxed);
                        // Every leader goes away.
                        drop(found);
                        done.send(is_lead).unwrap();
                    });
                }
            }
        });
        for _ in 0..2 * EACH {
            assert!(finished.recv().unwrap(), "each leads in its turn");
        }
        assert_eq!(leads.load(Ordering::Relaxed), 2 * EACH);
        town.order(|| Order::Stop);
        town.join();
    });
}
