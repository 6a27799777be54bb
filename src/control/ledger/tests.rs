use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;

use super::{
    balance::Balance,
    step::{self, Step},
    *,
};
use crate::{
    control::logs::{
        frame::{self, FrameBuffer},
        segment::{WriteAt, write_at},
    },
    handoff::{
        ledger::{Batch, Charge, LedgerHealth, Reservation, Settlement},
        mailbox::{Order, letterbox},
    },
    shard::ledger::{Actual, Answer, Ask, Book, Now, Permit, Ticket, Why},
    snapshot::limits::{Claim, CounterKey, Measure, Span},
};

const UNIX: u64 = 1_795_000_000_000_000;
const HOUR: u64 = 3_600_000_000;

fn key(number: u8) -> CounterKey {
    CounterKey {
        owner: u64::from(number) << 56,
        id: [number; 16],
    }
}

fn charge(number: u8, at: u64, amount: u64) -> Charge {
    Charge {
        key: key(number),
        at_micros: UNIX + at,
        until_micros: UNIX + at + HOUR,
        amount,
    }
}

fn reserved(permit: u64, charges: &[Charge]) -> Batch {
    Batch {
        reservations: vec![Reservation {
            permit,
            charges: charges.to_vec(),
        }],
        ..Batch::default()
    }
}

fn settled(permit: u64, amounts: &[u64]) -> Batch {
    Batch {
        settlements: vec![Settlement {
            permit,
            amounts: amounts.to_vec(),
        }],
        ..Batch::default()
    }
}

fn spent(charges: &[Charge]) -> Batch {
    Batch {
        spent: charges.to_vec(),
        ..Batch::default()
    }
}

fn open_with(folder: &Path, write_at: WriteAt) -> (Journal, Recovered) {
    Journal::open(folder, UNIX, write_at, Arc::default()).unwrap()
}

fn open(folder: &Path) -> (Journal, Recovered) {
    open_with(folder, write_at())
}

fn write(journal: &mut Journal, batch: Batch) -> bool {
    journal.write(vec![batch], UNIX) == [true]
}

fn file(folder: &Path) -> PathBuf {
    folder.join("ledger.journal")
}

/// The counters of what was recovered, with their sums.
fn sums(recovered: &Recovered) -> Vec<(u8, u64)> {
    let mut sums: Vec<(u8, u64)> = Vec::new();
    for charge in &recovered.charges {
        let number = charge.key.id[0];
        match sums.last_mut() {
            Some((last, sum)) if *last == number => *sum += charge.amount,
            _ => sums.push((number, charge.amount)),
        }
    }
    sums
}

#[test]
fn a_reservation_that_nobody_settled_counts_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    assert!(write(
        &mut journal,
        reserved(1, &[charge(1, 0, 50), charge(2, 0, 60)])
    ));
    assert!(write(&mut journal, reserved(2, &[charge(1, 5, 7)])));
    assert!(write(&mut journal, settled(1, &[10, 0])));
    assert!(write(&mut journal, spent(&[charge(3, 9, 4)])));
    // Nobody knows these.
    assert!(write(&mut journal, settled(1, &[99, 99])));
    assert!(write(&mut journal, settled(9, &[99])));
    drop(journal);
    let (journal, recovered) = open(dir.path());
    assert_eq!(sums(&recovered), [(1, 17), (3, 4)]);
    assert_eq!((recovered.unsettled, recovered.notes.len()), (1, 0));
    let mine: Vec<_> = recovered.of_shard(0, 128).collect();
    assert_eq!(mine, recovered.charges[..1], "others own the rest");
    drop(journal);
    // The next one finds the same, once.
    assert_eq!(sums(&open(dir.path()).1), [(1, 17), (3, 4)]);
    let after = UNIX + 2 * HOUR;
    let (_, later) = Journal::open(dir.path(), after, write_at(), Arc::default()).unwrap();
    assert_eq!(later.charges, []);
}

#[test]
fn a_torn_end_costs_nothing_that_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    write(&mut journal, reserved(1, &[charge(1, 0, 50)]));
    let whole = fs::metadata(file(dir.path())).unwrap().len();
    write(&mut journal, settled(1, &[3]));
    drop(journal);
    let image = fs::read(file(dir.path())).unwrap();
    for length in usize::try_from(whole).unwrap()..image.len() {
        let other = tempfile::tempdir().unwrap();
        fs::write(file(other.path()), &image[..length]).unwrap();
        let (_, recovered) = open(other.path());
        assert_eq!(sums(&recovered), [(1, 50)], "cut at {length}");
        assert_eq!(recovered.notes.is_empty(), length as u64 == whole);
    }
    assert_eq!(sums(&open(dir.path()).1), [(1, 3)]);
}

#[test]
fn a_damaged_stretch_is_passed_over_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    write(&mut journal, spent(&[charge(1, 0, 50)]));
    let at = usize::try_from(fs::metadata(file(dir.path())).unwrap().len()).unwrap();
    write(&mut journal, spent(&[charge(2, 0, 60)]));
    write(&mut journal, spent(&[charge(3, 0, 70)]));
    drop(journal);
    for (offset, why) in [(at + 3, "no frame begins here"), (at + 70, "checksum")] {
        let other = tempfile::tempdir().unwrap();
        let mut image = fs::read(file(dir.path())).unwrap();
        image[offset] ^= 1;
        fs::write(file(other.path()), image).unwrap();
        let (_, recovered) = open(other.path());
        assert_eq!(sums(&recovered), [(1, 50), (3, 70)]);
        assert_eq!(recovered.notes.len(), 1);
        assert!(recovered.notes[0].contains(why), "{:?}", recovered.notes);
    }
}

/// A disk that can be broken.
fn breakable() -> (WriteAt, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let write_at: WriteAt = Arc::new(move |file, bytes, offset| {
        if switch.load(Ordering::Relaxed) {
            // Half of it, then nothing: the worst that a full disk does.
            let half = bytes.len() / 2;
            file.write_at(&bytes[..half], offset)?;
            return Err(io::Error::from_raw_os_error(28));
        }
        file.write_at(bytes, offset)
    });
    (write_at, broken)
}

#[test]
fn a_broken_disk_refuses_reservations_and_loses_no_settlement() {
    let dir = tempfile::tempdir().unwrap();
    let (write_at, broken) = breakable();
    let health = Arc::new(LedgerHealth::default());
    let (mut journal, _) = Journal::open(dir.path(), UNIX, write_at, Arc::clone(&health)).unwrap();
    assert!(write(&mut journal, reserved(1, &[charge(1, 0, 50)])));
    broken.store(true, Ordering::Relaxed);
    assert!(!write(&mut journal, reserved(2, &[charge(1, 0, 60)])));
    assert!(!journal.is_unfinished(), "nothing to make up for");
    let mut both = reserved(3, &[charge(1, 0, 70)]);
    both.settlements = settled(1, &[5]).settlements;
    both.spent = vec![charge(2, 0, 6)];
    assert!(!write(&mut journal, both));
    assert!(journal.is_unfinished());
    journal.tend(UNIX);
    assert!(journal.is_unfinished(), "it cannot be made up for yet");
    assert!(health.figures().failing);
    assert_eq!(health.figures().refused, 2);
    // A kill now: the settlement was in memory only.
    let other = tempfile::tempdir().unwrap();
    fs::copy(file(dir.path()), file(other.path())).unwrap();
    assert_eq!(sums(&open(other.path()).1), [(1, 50)]);
    broken.store(false, Ordering::Relaxed);
    assert!(write(&mut journal, reserved(4, &[charge(1, 0, 8)])));
    assert!(!health.figures().failing);
    journal.tend(UNIX + 1_000_000);
    // Into both files in the end, until then into the old one.
    assert!(write(&mut journal, reserved(5, &[charge(3, 0, 9)])));
    let later = tempfile::tempdir().unwrap();
    fs::copy(file(dir.path()), file(later.path())).unwrap();
    assert_eq!(sums(&open(later.path()).1), [(1, 58), (3, 9)]);
    journal.finish(UNIX + 1_000_000);
    assert!(!journal.is_unfinished());
    drop(journal);
    assert_eq!(sums(&open(dir.path()).1), [(1, 13), (2, 6), (3, 9)]);
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (faulty, broken) = breakable();
    broken.store(true, Ordering::Relaxed);
    assert!(Journal::open(dir.path(), UNIX, faulty, Arc::default()).is_err());
    fs::create_dir(file(dir.path())).unwrap();
    assert!(Journal::open(dir.path(), UNIX, write_at(), Arc::default()).is_err());
}

#[test]
fn the_file_stays_small_and_keeps_its_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    write(&mut journal, reserved(1, &[charge(9, 0, 77)]));
    let (mut longest, mut sum) = (0, 0);
    for round in 0..300u64 {
        let batches = (0..4).map(|part| {
            let permits = (0..64).map(|n| 10 + round * 256 + part * 64 + n);
            Batch {
                reservations: permits
                    .clone()
                    .map(|permit| Reservation {
                        permit,
                        charges: vec![charge(1, round * 1_000, 1_000)],
                    })
                    .collect(),
                settlements: permits
                    .map(|permit| Settlement {
                        permit,
                        amounts: vec![permit % 3],
                    })
                    .collect(),
                ..Batch::default()
            }
        });
        let batches: Vec<_> = batches.collect();
        let settled = batches.iter().flat_map(|batch| &batch.settlements);
        sum += settled.map(|settlement| settlement.amounts[0]).sum::<u64>();
        assert_eq!(journal.write(batches, UNIX), [true; 4]);
        journal.finish(UNIX);
        longest = longest.max(fs::metadata(file(dir.path())).unwrap().len());
    }
    assert!(longest < 5 << 20, "{longest}");
    drop(journal);
    let (_, recovered) = open(dir.path());
    assert_eq!(sums(&recovered), [(1, sum), (9, 77)]);
    assert!(recovered.charges.len() < 10);
}

fn any_charge() -> impl Strategy<Value = Charge> {
    (any::<u8>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(number, at_micros, until_micros, amount)| Charge {
            key: key(number),
            at_micros,
            until_micros,
            amount,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let charges = prop::collection::vec(any_charge(), 0..4);
    let amounts = prop::collection::vec(any::<u64>(), 0..4);
    prop_oneof![
        (any::<u64>(), charges)
            .prop_map(|(permit, charges)| Step::Reserved(Reservation { permit, charges })),
        (any::<u64>(), amounts)
            .prop_map(|(permit, amounts)| Step::Settled(Settlement { permit, amounts })),
        any_charge().prop_map(Step::Spent),
    ]
}

proptest! {
    #[test]
    fn steps_come_back(steps in prop::collection::vec(any_step(), 0..20), cut in 1..40usize) {
        let mut buffer = FrameBuffer::new();
        for step in &steps {
            step.write(&mut buffer);
        }
        let mut read = Vec::new();
        prop_assert!(step::read(&buffer, |step| read.push(step)));
        prop_assert_eq!(&read, &steps);
        let short = &buffer[..buffer.len().saturating_sub(cut)];
        let mut fewer = Vec::new();
        step::read(short, |step| fewer.push(step));
        prop_assert_eq!(&fewer, &steps[..fewer.len()]);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut balance = Balance::default();
        step::read(&bytes, |step| {
            balance.take(step);
        });
        balance.sweep(UNIX);
        balance.spend_open();
        let _ = frame::read_any(&bytes);
    }

    #[test]
    fn a_balance_is_never_under_and_little_over(
        sliding: bool,
        charges in prop::collection::vec((0..HOUR / 8, 1..100u64), 1..200),
        look in 0..2 * HOUR,
    ) {
        let mut balance = Balance::default();
        let (mut now, mut exact) = (UNIX, Vec::new());
        for (wait, amount) in charges {
            now += wait;
            let until = if sliding { now + HOUR } else { (now / HOUR + 1) * HOUR };
            let charge = Charge { key: key(1), at_micros: now, until_micros: until, amount };
            prop_assert!(balance.take(Step::Spent(charge)));
            exact.push(charge);
        }
        let look = UNIX + look;
        balance.sweep(look);
        let kept = balance.spent();
        // As a window would count it: by the time at which it was counted.
        let sum = |charges: &[Charge], from: u64| -> u64 {
            let counting = charges.iter().filter(|charge| {
                charge.until_micros > look && charge.at_micros >= from
            });
            counting.map(|charge| charge.amount).sum()
        };
        prop_assert!(sum(&kept, 0) >= sum(&exact, 0));
        for from in [look.saturating_sub(HOUR), look - look % HOUR, now] {
            prop_assert!(sum(&kept, from) >= sum(&exact, from));
        }
        let late = HOUR / 256;
        let over: u64 = exact
            .iter()
            .filter(|charge| charge.until_micros + late > look)
            .map(|charge| charge.amount)
            .sum();
        prop_assert!(sum(&kept, 0) <= over);
    }
}

#[test]
fn charges_of_one_window_become_few() {
    for sliding in [true, false] {
        let mut balance = Balance::default();
        for number in 0..20_000 {
            let now = UNIX + number * 150_000;
            let until = if sliding { now + HOUR } else { UNIX + HOUR };
            balance.take(Step::Spent(Charge {
                key: key(1),
                at_micros: now,
                until_micros: until,
                amount: 1,
            }));
        }
        let (count, _) = balance.counts();
        assert!(count <= if sliding { 512 } else { 48 }, "{count}");
        let sum: u64 = balance.spent().iter().map(|charge| charge.amount).sum();
        assert_eq!(sum, 20_000);
    }
}

const DOLLAR: u64 = 1_000_000_000_000;

fn hard(amount: u64) -> Claim {
    Claim {
        key: key(1),
        rule: 0,
        measure: Measure::Cost,
        hard: true,
        limit: DOLLAR,
        span: Span::Sliding(HOUR),
        amount,
        least: amount,
    }
}

fn ask(number: u64, claim: Claim) -> Ask {
    Ask {
        ticket: Ticket { shard: 0, number },
        claims: vec![claim],
        life: Duration::from_mins(10),
        undoable: false,
    }
}

fn cost(picos: u64) -> Actual {
    Actual {
        cost: Some(picos),
        list_cost: Some(picos),
        ..Actual::default()
    }
}

#[test]
fn a_thousand_requests_at_once_never_pass_a_hard_dollar() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let (post, batches) = letterbox().unwrap();
    let (orders_post, orders) = letterbox().unwrap();
    let thread = LedgerThread::start(journal, batches, vec![orders_post]).unwrap();
    let now = Now::new(0, UNIX);
    let mut book = Book::new(0);
    let mut answers: Vec<Answer> = Vec::new();
    // Every request may cost up to a cent, and costs between nothing and that.
    let bound = DOLLAR / 100;
    let real = |number: u64| bound / 7 * (number % 8).min(7);
    let mut asked: Vec<u64> = (0..1_000).collect();
    let (mut total, mut admitted, mut waiting) = (0, 0, 0);
    loop {
        for number in asked.drain(..) {
            match book.reserve(&ask(number, hard(bound)), now) {
                Some(answer) => answers.push(answer),
                None => waiting += 1,
            }
        }
        if let Some(batch) = book.take_batch(now) {
            assert!(post.send(batch).is_ok());
        }
        if waiting > 0 {
            let order = orders.wait(Duration::from_secs(30)).unwrap();
            let Order::Journalled(journalled) = order else {
                panic!("another order")
            };
            assert!(journalled.written);
            waiting -= journalled.permits.len();
            book.journalled(&journalled, now, &mut answers);
        }
        for answer in answers.drain(..) {
            let number = answer.ticket.number;
            if let Ok(Permit { id: Some(id), .. }) = answer.result {
                admitted += 1;
                total += real(number);
                book.settle(id, cost(real(number)), now);
            } else if book.outstanding() > 0 {
                // There may be room when others have settled.
                asked.push(number);
            }
        }
        assert!(total <= DOLLAR);
        if asked.is_empty() && waiting == 0 {
            break;
        }
    }
    assert!(admitted > 150, "{admitted}");
    assert_eq!(book.standing(key(1), now), Some((u128::from(total), 0)));
    if let Some(rest) = book.take_rest() {
        assert!(post.send(rest).is_ok());
    }
    thread.stop();
    let (_, recovered) = open(dir.path());
    assert_eq!(
        (sums(&recovered), recovered.unsettled),
        (vec![(1, total)], 0)
    );
}

#[test]
fn the_thread_says_no_when_the_disk_does() {
    let dir = tempfile::tempdir().unwrap();
    let (write_at, broken) = breakable();
    let (journal, _) = open_with(dir.path(), write_at);
    let (post, batches) = letterbox().unwrap();
    let (orders_post, orders) = letterbox().unwrap();
    let thread = LedgerThread::start(journal, batches, vec![orders_post]).unwrap();
    let now = Now::new(0, UNIX);
    let mut book = Book::new(0);
    broken.store(true, Ordering::Relaxed);
    assert_eq!(book.reserve(&ask(1, hard(5)), now), None);
    assert!(post.send(book.take_batch(now).unwrap()).is_ok());
    let Some(Order::Journalled(journalled)) = orders.wait(Duration::from_secs(30)) else {
        panic!("no answer")
    };
    let mut answers = Vec::new();
    book.journalled(&journalled, now, &mut answers);
    assert_eq!(answers[0].result.unwrap_err().why, Why::Journal);
    assert_eq!(book.standing(key(1), now), Some((0, 0)));
    broken.store(false, Ordering::Relaxed);
    thread.stop();
    assert_eq!(open(dir.path()).1.charges, []);
}

/// Where a process that is to be killed keeps its journal.
const KILLED_IN: &str = "TIDEGATE_TEST_LEDGER_FOLDER";

/// What a request of that process may cost.
const KILLED_BOUND: u64 = DOLLAR / 2_000;

/// Grants, spends and settles until it is killed, and tells each grant before anything is spent, and
/// what was spent before it is settled.
fn spend_until_killed(folder: &Path) {
    let (journal, recovered) = open(folder);
    let (post, batches) = letterbox().unwrap();
    let (orders_post, orders) = letterbox().unwrap();
    let _thread = LedgerThread::start(journal, batches, vec![orders_post]).unwrap();
    let (now, mut answers) = (Now::new(0, UNIX), Vec::new());
    let mut book = Book::new(0);
    book.recover(recovered.of_shard(0, 1));
    let mut out = io::stdout();
    for number in 0.. {
        if book
            .reserve(&ask(number, hard(KILLED_BOUND)), now)
            .is_some()
        {
            return;
        }
        assert!(post.send(book.take_batch(now).unwrap()).is_ok());
        let Some(Order::Journalled(journalled)) = orders.wait(Duration::from_secs(30)) else {
            return;
        };
        book.journalled(&journalled, now, &mut answers);
        for answer in answers.drain(..) {
            let id = answer.result.unwrap().id.unwrap();
            writeln!(out, "granted").unwrap();
            // One of four stays under way.
            if number % 4 != 0 {
                let real = KILLED_BOUND / 4 * (number % 4);
                writeln!(out, "spent {real}").unwrap();
                book.settle(id, cost(real), now);
            }
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_at_least_what_it_let_through() {
    const NAME: &str =
        "control::ledger::tests::a_process_that_is_killed_leaves_at_least_what_it_let_through";
    if let Some(folder) = std::env::var_os(KILLED_IN) {
        return spend_until_killed(Path::new(&folder));
    }
    let dir = tempfile::tempdir().unwrap();
    // What was granted counts in full until it is known what it cost.
    let mut let_through = 0;
    for round in 1..=6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(KILLED_IN, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        for line in lines {
            let line = line.unwrap();
            if line.ends_with("granted") {
                let_through += KILLED_BOUND;
            } else if let Some(real) = line.strip_prefix("spent ") {
                let_through -= KILLED_BOUND - real.parse::<u64>().unwrap();
            } else {
                continue;
            }
            told += 1;
            if told == round * 37 {
                // SIGKILL; what it told before that is still in the pipe.
                child.kill().unwrap();
            }
        }
        assert!(told >= round * 37, "it was killed in the middle");
        child.wait().unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::copy(file(dir.path()), file(copy.path())).unwrap();
        let kept: u64 = sums(&open(copy.path()).1).iter().map(|(_, sum)| sum).sum();
        assert!(let_through > 0 && let_through <= kept, "round {round}");
        assert!(kept <= DOLLAR);
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Ask(u64),
    Write,
    FailToWrite,
    Settle(prop::sample::Index, u64),
    Release(prop::sample::Index),
    Wait(u64),
    Kill,
}

fn deed() -> impl Strategy<Value = Deed> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        8 => (0..DOLLAR / 3).prop_map(Deed::Ask),
        6 => Just(Deed::Write),
        1 => Just(Deed::FailToWrite),
        6 => (which(), 0..=100u64).prop_map(|(which, part)| Deed::Settle(which, part)),
        2 => which().prop_map(Deed::Release),
        3 => (0..200_000u64).prop_map(Deed::Wait),
        1 => Just(Deed::Kill),
    ]
}

/// A server of one shard, as far as its ledger goes.
struct Server {
    folder: tempfile::TempDir,
    journal: Journal,
    book: Book,
    broken: Arc<AtomicBool>,
    micros: u64,
    /// Requests that are under way: permit and what they may cost.
    under_way: Vec<(crate::shard::ledger::PermitId, u64)>,
    /// What each asked for.
    amounts: Vec<u64>,
    /// What was spent for real.
    spent: u64,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (write_at, broken) = breakable();
        let (journal, _) = open_with(folder.path(), write_at);
        Self {
            folder,
            journal,
            book: Book::new(0),
            broken,
            micros: 0,
            under_way: Vec::new(),
            amounts: Vec::new(),
            spent: 0,
        }
    }

    fn now(&self) -> Now {
        Now::new(self.micros, UNIX + self.micros)
    }

    fn ask(&mut self, amount: u64) {
        let number = self.amounts.len() as u64;
        self.amounts.push(amount);
        let now = self.now();
        if let Some(answer) = self.book.reserve(&ask(number, hard(amount)), now) {
            assert!(answer.result.is_err());
        }
    }

    fn write(&mut self) {
        let (now, mut answers) = (self.now(), Vec::new());
        self.book.tick(now, &mut answers);
        if let Some(batch) = self.book.take_batch(now) {
            let permits = batch.reservations.iter();
            let permits = permits.map(|reservation| reservation.permit).collect();
            let written = self.journal.write(vec![batch], now.unix_micros) == [true];
            let journalled = crate::handoff::ledger::Journalled { permits, written };
            self.book.journalled(&journalled, now, &mut answers);
        }
        for answer in answers {
            let amount = self.amounts[usize::try_from(answer.ticket.number).unwrap()];
            if let Ok(permit) = answer.result {
                self.under_way.push((permit.id.unwrap(), amount));
            }
        }
    }

    fn kill(&mut self) {
        // What was under way may have cost all that it might.
        self.spent += self
            .under_way
            .drain(..)
            .map(|(_, amount)| amount)
            .sum::<u64>();
        self.broken.store(false, Ordering::Relaxed);
        let (write_at, broken) = breakable();
        let (journal, recovered) = Journal::open(
            self.folder.path(),
            UNIX + self.micros,
            write_at,
            Arc::default(),
        )
        .unwrap();
        self.book = Book::new(0);
        self.book.recover(recovered.of_shard(0, 1));
        (self.journal, self.broken) = (journal, broken);
    }

    fn does(&mut self, deed: &Deed) {
        let now = self.now();
        match deed {
            Deed::Ask(amount) => self.ask(*amount),
            Deed::Write => self.write(),
            Deed::FailToWrite => {
                self.broken.store(true, Ordering::Relaxed);
                self.write();
                self.broken.store(false, Ordering::Relaxed);
            }
            Deed::Settle(which, part) if !self.under_way.is_empty() => {
                let which = which.index(self.under_way.len());
                let (id, amount) = self.under_way.swap_remove(which);
                let real = amount / 100 * *part;
                self.spent += real;
                assert!(self.book.settle(id, cost(real), now));
            }
            Deed::Release(which) if !self.under_way.is_empty() => {
                let which = which.index(self.under_way.len());
                let (id, _) = self.under_way.swap_remove(which);
                assert!(self.book.release(id, now));
            }
            Deed::Settle(..) | Deed::Release(_) => {}
            Deed::Wait(micros) => self.micros += micros,
            Deed::Kill => self.kill(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_hard_limit_holds_through_kills_and_failing_disks(
        deeds in prop::collection::vec(deed(), 0..120),
    ) {
        // All of it happens within one window.
        let mut server = Server::start();
        for deed in deeds {
            server.does(&deed);
            let may_cost: u64 = server.under_way.iter().map(|(_, amount)| amount).sum();
            prop_assert!(server.spent + may_cost <= DOLLAR);
        }
        // In the end all is settled, and nothing is held.
        server.write();
        let now = server.now();
        for (id, _) in std::mem::take(&mut server.under_way) {
            server.book.release(id, now);
        }
        server.kill();
        let claim = server.book.reserve(&ask(0, hard(0)), server.now());
        let refused = claim.is_some_and(|answer| answer.result.is_err());
        prop_assert!(server.spent < DOLLAR || refused);
    }
}
