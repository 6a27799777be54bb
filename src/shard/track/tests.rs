use std::{future::Future, pin::pin};

use proptest::prelude::*;

use super::*;

fn poll<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Reads until there is nothing more for now; the last word is `None` if more may come.
fn read(reader: &mut Reader) -> (Vec<u8>, Option<Result<(), Cut>>) {
    let mut bytes = Vec::new();
    loop {
        match poll(reader.next()) {
            Some(Ok(Some(piece))) => bytes.extend_from_slice(piece.bytes()),
            Some(Ok(None)) => return (bytes, Some(Ok(()))),
            Some(Err(cut)) => return (bytes, Some(Err(cut))),
            None => return (bytes, None),
        }
    }
}

#[track_caller]
fn check(reader: &mut Reader, bytes: &[u8], last: Option<Result<(), Cut>>) {
    assert_eq!(read(reader), (bytes.to_vec(), last));
}

const LARGE: u64 = 1 << 40;

#[test]
fn readers_catch_up_and_then_follow() {
    let (writer, track) = Tracks::new(LARGE).open();
    let mut first = track.join(0).unwrap();
    check(&mut first, b"", None);
    writer.push(b"one ", 1);
    writer.push(b"two ", 2);
    check(&mut first, b"one two ", None);
    let mut late = track.join(0).unwrap();
    let mut middle = track.join(6).unwrap();
    check(&mut middle, b"o ", None);
    assert_eq!(track.join(9).unwrap_err(), JoinError::Beyond);
    writer.push(b"three", 3);
    writer.end();
    check(&mut first, b"three", Some(Ok(())));
    check(&mut late, b"one two three", Some(Ok(())));
    check(&mut middle, b"three", Some(Ok(())));
    let mut after = track.join(13).unwrap();
    check(&mut after, b"", Some(Ok(())));
    let mut body = b"behind ".to_vec();
    let frames = track.whole(&mut body).unwrap();
    assert_eq!(body, b"behind one two three");
    let ends: Vec<_> = frames.iter().map(|it| (it.end, it.micros)).collect();
    assert_eq!(ends, [(4, 1), (8, 2), (13, 3)]);
}

#[test]
fn an_abort_is_never_a_clean_end() {
    let (writer, track) = Tracks::new(LARGE).open();
    let mut reader = track.join(0).unwrap();
    writer.push(b"half", 1);
    drop(writer);
    check(&mut reader, b"half", Some(Err(Cut::Aborted)));
    // It stays so, however often one asks.
    check(&mut reader, b"", Some(Err(Cut::Aborted)));
    assert_eq!(track.join(0).unwrap_err(), JoinError::Aborted);
    assert_eq!(track.whole(&mut Vec::new()), None);
}

#[test]
fn the_writer_goes_at_the_pace_of_the_fastest() {
    let (writer, track) = Tracks::new(LARGE).open();
    assert_eq!(poll(writer.may_go_on()), Some(Pace::Abandoned));
    let (mut fast, mut slow) = (track.join(0).unwrap(), track.join(0).unwrap());
    for _ in 0..10 {
        assert_eq!(poll(writer.may_go_on()), Some(Pace::Wanted));
        writer.push(b"x", 0);
        assert_eq!(poll(writer.may_go_on()), None);
        assert!(poll(fast.next()).unwrap().unwrap().is_some());
        // It has the frame, and has not passed it on yet.
        assert_eq!(poll(writer.may_go_on()), None);
        assert!(poll(fast.next()).is_none());
    }
    assert_eq!((fast.offset(), slow.offset()), (10, 0));
    drop(fast);
    // Now the other one is the fastest, and first has to catch up.
    assert_eq!(poll(writer.may_go_on()), None);
    check(&mut slow, b"xxxxxxxxxx", None);
    assert_eq!(poll(writer.may_go_on()), Some(Pace::Wanted));
    drop(slow);
    assert_eq!(poll(writer.may_go_on()), Some(Pace::Abandoned));
    assert_eq!(track.readers(), 0);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn whoever_waits_is_woken() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let woken = || count.0.swap(0, std::sync::atomic::Ordering::Relaxed);
    let (writer, track) = Tracks::new(LARGE).open();
    let mut reader = track.join(0).unwrap();
    assert!(pin!(reader.next()).poll(&mut cx).is_pending());
    writer.push(b"x", 0);
    assert_eq!(woken(), 1, "the reader, by a frame");
    assert!(writer.poll_may_go_on(&cx).is_pending());
    assert!(poll(reader.next()).unwrap().is_ok());
    assert_eq!(woken(), 0);
    assert!(poll(reader.next()).is_none());
    assert_eq!(woken(), 1, "the writer, by what was passed on");
    writer.push(b"x", 0);
    assert!(writer.poll_may_go_on(&cx).is_pending());
    drop(reader);
    assert_eq!(woken(), 1, "the writer, by the last one's going");
    let mut reader = track.join(2).unwrap();
    assert!(pin!(reader.next()).poll(&mut cx).is_pending());
    writer.end();
    assert_eq!(woken(), 1, "the reader, by the end");
}

#[test]
fn past_its_bound_a_track_gives_up_its_beginning() {
    let tracks = Tracks::new(LARGE);
    let (writer, track) = tracks.open();
    let (mut fast, mut slow) = (track.join(0).unwrap(), track.join(0).unwrap());
    let frame = vec![7; 64 * 1024];
    let fits = TRACK_BYTES_MAX / frame.len() as u64;
    for _ in 0..fits {
        writer.push(&frame, 0);
    }
    assert!(poll(slow.next()).unwrap().unwrap().is_some());
    assert!(track.join(0).is_ok());
    let (bytes, last) = read(&mut fast);
    assert_eq!((bytes.len() as u64, last), (TRACK_BYTES_MAX, None));
    writer.push(&frame, 0);
    assert_eq!(track.join(0).unwrap_err(), JoinError::Closed);
    assert!(tracks.bytes() <= TRACK_BYTES_MAX);
    // It was given the first frame, so it can go on; and now it falls behind.
    assert!(poll(slow.next()).unwrap().unwrap().is_some());
    writer.push(&frame, 0);
    writer.push(&frame, 0);
    check(&mut slow, b"", Some(Err(Cut::Behind)));
    drop(slow);
    // Only what somebody still wants is kept.
    read(&mut fast);
    writer.push(&frame, 0);
    assert_eq!(tracks.bytes(), frame.len() as u64);
    writer.end();
    assert_eq!(read(&mut fast), (frame, Some(Ok(()))));
    assert_eq!(track.whole(&mut Vec::new()), None);
}

#[test]
fn tracks_share_what_a_shard_has_for_them() {
    let tracks = Tracks::new(100);
    let (one, first) = tracks.open();
    let (two, second) = tracks.open();
    one.push(&[1; 60], 0);
    two.push(&[2; 60], 0);
    // The one that grew has to give.
    assert!(first.join(0).is_ok());
    assert_eq!(second.join(0).unwrap_err(), JoinError::Closed);
    assert!(tracks.bytes() <= 100);
    // Who keeps up gets everything all the same.
    let mut reader = first.join(60).unwrap();
    one.push(&[1; 50], 0);
    check(&mut reader, &[1; 50], None);
    assert_eq!(first.join(0).unwrap_err(), JoinError::Closed);
    drop((first, one, reader));
    let (one, first) = tracks.open();
    one.push(&[1; 60], 0);
    one.end();
    assert!(first.whole(&mut Vec::new()).is_some());
    drop((first, two, second));
    assert_eq!(tracks.bytes(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    Join(u64),
    Read(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
        1 => (0..200u64).prop_map(Step::Join),
        3 => (0..8usize).prop_map(Step::Read),
        1 => (0..8usize).prop_map(Step::Leave),
    ]
}

proptest! {
    #[test]
    fn every_reader_gets_exactly_what_follows_its_offset_or_an_error(
        story in proptest::collection::vec(steps(), 0..80),
        whole in any::<bool>(),
        max in 50..400u64,
    ) {
        let tracks = Tracks::new(max);
        let (writer, track) = tracks.open();
        let mut sent = Vec::new();
        let mut readers: Vec<(Reader, u64, Vec<u8>)> = Vec::new();
        for step in story {
            match step {
                Step::Push(bytes) => {
                    writer.push(&bytes, 0);
                    sent.extend_from_slice(&bytes);
                }
                Step::Join(offset) => {
                    if let Ok(reader) = track.join(offset) {
                        prop_assert!(offset <= sent.len() as u64);
                        readers.push((reader, offset, Vec::new()));
                    }
                }
                Step::Read(number) => {
                    if let Some((reader, _, got)) = readers.get_mut(number)
                        && let Some(next) = poll(reader.next())
                    {
                        match next {
                            Ok(Some(piece)) => got.extend_from_slice(piece.bytes()),
                            Ok(None) => prop_assert!(false, "an end before the end"),
                            Err(cut) => prop_assert_eq!(cut, Cut::Behind),
                        }
                    }
                }
                Step::Leave(number) => {
                    if number < readers.len() {
                        drop(readers.swap_remove(number));
                    }
                }
            }
            // The newest frame may be over it.
            prop_assert!(tracks.bytes() <= max + 40);
            prop_assert_eq!(track.readers(), readers.len());
            let fastest = readers.iter().any(|(reader, ..)| reader.offset() == track.length());
            let pace = match (readers.is_empty(), fastest) {
                (true, _) => Some(Pace::Abandoned),
                (false, true) => Some(Pace::Wanted),
                (false, false) => None,
            };
            prop_assert_eq!(poll(writer.may_go_on()), pace);
        }
        if whole {
            writer.end();
        } else {
            drop(writer);
        }
        for (reader, offset, got) in &mut readers {
            let (rest, last) = read(reader);
            got.extend_from_slice(&rest);
            let from = usize::try_from(*offset).unwrap();
            match last {
                Some(Ok(())) => {
                    prop_assert!(whole);
                    prop_assert_eq!(&**got, &sent[from..]);
                }
                Some(Err(Cut::Aborted)) => {
                    prop_assert!(!whole);
                    prop_assert_eq!(&**got, &sent[from..]);
                }
                Some(Err(Cut::Behind)) => prop_assert!(sent[from..].starts_with(got)),
                None => prop_assert!(false, "nobody waits after the end"),
            }
        }
        let mut body = Vec::new();
        if track.whole(&mut body).is_some() {
            prop_assert!(whole);
            prop_assert_eq!(body, sent);
        }
        drop((readers, track));
        prop_assert_eq!(tracks.bytes(), 0);
    }
}
