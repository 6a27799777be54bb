use std::{sync::Barrier, thread};

use proptest::prelude::*;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

fn bells(shards: usize) -> Vec<Arc<Bell>> {
    (0..shards)
        .map(|_| Arc::new(Bell::new().unwrap()))
        .collect()
}

fn ends<T: Send, const N: usize>(messages: usize) -> [MeshEnd<T>; N] {
    let ends = mesh_of(&bells(N), messages);
    ends.try_into().unwrap_or_else(|_| panic!("one end a bell"))
}

#[test]
fn a_message_reaches_the_shard_it_is_for() {
    let mut ends: [_; 3] = ends(8);
    ends[0].offer(2, "to two").unwrap();
    ends[1].reply(2, "also").unwrap();
    ends[2].offer(0, "back").unwrap();
    assert!(ends[1].is_empty() && ends[1].take().is_none());
    let mut heard = [ends[2].take().unwrap(), ends[2].take().unwrap()];
    heard.sort_unstable();
    assert_eq!(heard, [(0, "to two"), (1, "also")]);
    assert!(ends[2].is_empty());
    assert_eq!(ends[0].take(), Some((2, "back")));
}

#[test]
fn a_shard_without_peers_has_nobody_to_talk_to() {
    let [mut end] = ends(8);
    assert_eq!(end.offer(0, 1), Err(Unsent::Gone(1)));
    assert_eq!(end.reply(7, 2), Err(Unsent::Gone(2)));
    assert!(end.take().is_none() && end.is_empty());
    assert_eq!(end.replies_max(), 0);
}

#[test]
fn a_peer_that_never_drains_costs_its_sender_nothing_but_the_message() {
    let [mut here, there] = ends(8);
    for number in 0..4 {
        here.offer(1, number).unwrap();
    }
    assert_eq!(here.offer(1, 4), Err(Unsent::Full(4)));
    // The other half is for replies, and it ends too.
    for number in 5..9 {
        here.reply(1, number).unwrap();
    }
    assert_eq!(here.reply(1, 9), Err(Unsent::Full(9)));
    drop(there);
    assert_eq!(here.reply(1, 9), Err(Unsent::Gone(9)));
}

#[test]
fn rings_of_any_size_keep_room_for_the_replies_they_promise() {
    for messages in 2..20 {
        let [mut here, mut there] = ends(messages);
        while here.offer(1, ()).is_ok() {}
        for _ in 0..here.replies_max() {
            here.reply(1, ()).unwrap();
        }
        while there.take().is_some() {}
        here.offer(1, ()).unwrap();
    }
}

#[test]
fn a_peer_whose_thread_panicked_gives_messages_back() {
    let [mut here, there] = ends(8);
    let thread = thread::spawn(move || {
        let _there: MeshEnd<u8> = there;
        panic!("a panic on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(here.offer(1, 1), Err(Unsent::Gone(1)));
    assert!(here.take().is_none());
    here.leave();
    assert!(here.all_have_left(), "a shard that ended has left");
}

#[test]
fn what_nobody_took_is_freed_with_the_last_end() {
    let [mut here, there] = ends(8);
    let message = Arc::new(());
    here.offer(1, Arc::clone(&message)).unwrap();
    drop(there);
    assert_eq!(Arc::strong_count(&message), 2);
    drop(here);
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn no_ring_is_read_for_long_while_another_waits() {
    let [mut reader, mut busy, mut quiet] = ends(1024);
    for _ in 0..500 {
        busy.offer(0, ()).unwrap();
    }
    quiet.offer(0, ()).unwrap();
    let mut taken = 0;
    while reader.take().unwrap().0 == 1 {
        taken += 1;
    }
    assert!(taken <= BURST, "{taken}");
}

#[test]
fn the_last_shard_to_leave_lets_all_go() {
    let mut ends: [MeshEnd<()>; 3] = ends(8);
    ends[0].leave();
    ends[0].leave();
    ends[1].leave();
    assert!(!ends[0].all_have_left());
    ends[2].leave();
    assert!(ends.iter().all(MeshEnd::all_have_left));
}

/// Pseudo-random numbers, the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        // Knuth's constants for a linear congruential generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pause(&mut self) {
        for _ in 0..self.next(40) {
            std::hint::spin_loop();
        }
    }
}

/// Waits like a shard's loop does, on a thread that may block.
fn sleep_unless_heard<T>(end: &MeshEnd<T>, bell: &Bell) {
    bell.prepare_sleep();
    if end.is_empty() {
        bell.wait(None);
    }
    bell.awake();
}

#[test]
fn a_sleeping_peer_is_woken_every_time() {
    const MESSAGES: u64 = 1_000_000;
    let bells = bells(2);
    let mut ends = mesh_of(&bells, 64);
    let (mut reader, mut writer) = (ends.pop().unwrap(), ends.pop().unwrap());
    let thread = thread::spawn(move || {
        let mut random = Random(1);
        for number in 0..MESSAGES {
            let mut message = number;
            while let Err(Unsent::Full(back)) = writer.offer(1, message) {
                message = back;
                thread::yield_now();
            }
            writer.ring();
            random.pause();
        }
        writer
    });
    let mut random = Random(2);
    let mut expected = 0;
    while expected < MESSAGES {
        while let Some((_, number)) = reader.take() {
            assert_eq!(number, expected);
            expected += 1;
        }
        random.pause();
        if expected < MESSAGES {
            sleep_unless_heard(&reader, &bells[1]);
        }
    }
    drop(thread.join().unwrap());
}

#[derive(Debug)]
enum Word {
    Ask,
    Answer,
}

/// Asks `questions` and answers whatever comes, until every shard has all its answers.
fn converse(number: usize, mut end: MeshEnd<Word>, bell: &Bell, questions: u64, start: &Barrier) {
    let peers = end.shards() - 1;
    let mut random = Random(number as u64 + 7);
    let mut open = vec![0; end.shards()];
    let (mut asked, mut answered) = (0, 0);
    start.wait();
    loop {
        for _ in 0..random.next(100) {
            let to =
                (number + 1 + usize::try_from(random.next(peers as u64)).unwrap()) % (peers + 1);
            if asked < questions && open[to] < end.replies_max() {
                let sent = end.offer(to, Word::Ask).is_ok();
                asked += u64::from(sent);
                open[to] += usize::from(sent);
            }
        }
        for _ in 0..random.next(300) {
            match end.take() {
                Some((from, Word::Ask)) => {
                    let sent = end.reply(from, Word::Answer);
                    assert!(sent.is_ok(), "an answer that was asked for finds room");
                }
                Some((from, Word::Answer)) => {
                    open[from] -= 1;
                    answered += 1;
                }
                None => break,
            }
        }
        end.ring();
        if answered == questions {
            end.leave();
            if end.all_have_left() {
                // The others may sleep over their last look.
                return;
            }
        }
        if asked == questions || open.iter().all(|open| *open > 0) {
            // Nobody says that the last one has left, so this is no wait without an end.
            bell.prepare_sleep();
            if end.is_empty() {
                bell.wait(Some(std::time::Duration::from_millis(1)));
            }
            bell.awake();
        }
    }
}

#[test]
fn a_storm_from_all_sides_ends_with_every_question_answered() {
    const QUESTIONS: u64 = 60_000;
    let bells = bells(3);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for (number, end) in mesh_of(&bells, 16).into_iter().enumerate() {
            let (bells, start) = (&bells, &start);
            scope.spawn(move || converse(number, end, &bells[number], QUESTIONS, start));
        }
    });
}

proptest! {
    #[test]
    fn messages_arrive_once_and_in_order(
        messages in 2usize..12,
        steps in proptest::collection::vec((0usize..3, 0usize..3, any::<bool>()), 0..300),
    ) {
        let mut ends: [MeshEnd<usize>; 3] = ends(messages);
        let mut sent: [[Vec<usize>; 3]; 3] = Default::default();
        let mut heard = sent.clone();
        for (step, (from, to, speaks)) in steps.into_iter().enumerate() {
            if speaks {
                if from != to && ends[from].offer(to, step).is_ok() {
                    sent[from][to].push(step);
                }
            } else if let Some((by, number)) = ends[to].take() {
                heard[by][to].push(number);
            }
        }
        for to in 0..3 {
            while let Some((by, number)) = ends[to].take() {
                heard[by][to].push(number);
            }
            prop_assert!(ends[to].is_empty());
        }
        prop_assert_eq!(sent, heard);
    }
}

#[test]
fn a_bell_rings_once_for_all_that_was_sent_and_for_nobody_else() {
    let bells = bells(3);
    let mut ends = mesh_of(&bells, 64);
    for bell in &bells {
        bell.prepare_sleep();
    }
    for number in 0..5 {
        ends[0].offer(1, number).unwrap();
    }
    let is_rung = |bell: &Bell| {
        let fd = bell.fd();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&at_once)) == Ok(1)
    };
    assert!(!is_rung(&bells[1]), "not before the turn's end");
    ends[0].ring();
    assert!(is_rung(&bells[1]) && !is_rung(&bells[2]));
    bells[1].awake();
    bells[1].drain();
    bells[1].prepare_sleep();
    ends[0].ring();
    assert!(!is_rung(&bells[1]), "nothing was sent since");
    // Who ends says first what there is to say.
    ends[0].offer(2, 7).unwrap();
    drop(ends.remove(0));
    assert!(is_rung(&bells[2]));
}
