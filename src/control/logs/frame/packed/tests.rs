use proptest::{collection::vec, option, prelude::*};

use super::*;

fn pack(records: &[Box<Record>]) -> Vec<u8> {
    let mut out = FrameBuffer::new();
    Packer::default().pack(records, &mut out).unwrap();
    out.to_vec()
}

fn unpack(payload: &[u8], rows: usize) -> Result<Vec<Record>, PayloadError> {
    let rows = u32::try_from(rows).unwrap();
    Ok(PackedRows::read(payload, rows)?.records().collect())
}

#[track_caller]
fn check(records: &[Box<Record>]) -> usize {
    let packed = pack(records);
    let back = unpack(&packed, records.len()).unwrap();
    assert!(back.iter().eq(records.iter().map(|record| &**record)));
    packed.len()
}

fn with_texts(texts: &[&[u8]; TEXTS]) -> Box<Record> {
    Box::new(Record {
        texts: Texts::pack(texts),
        ..Record::default()
    })
}

/// What a busy gateway writes.
fn usual(n: u64) -> Box<Record> {
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    let request = format!("req_{n:032x}");
    for (text, value) in [
        (Text::Gateway, "default"),
        (Text::Provider, "openai"),
        (
            Text::Model,
            ["gpt-4o", "gpt-4o-mini"][usize::from(n.is_multiple_of(3))],
        ),
        (Text::ModelName, "openai/gpt-4o"),
        (Text::Method, "POST"),
        (Text::Path, "/v1/chat/completions"),
        (Text::UserAgent, "OpenAI/Python 2.1.0"),
        (Text::RequestContentType, "application/json"),
        (Text::ResponseContentType, "application/json"),
        (Text::UpstreamRequestId, request.as_str()),
    ] {
        texts[text as usize] = value.as_bytes();
    }
    Box::new(Record {
        id: (0x0191_0000_0000_7000_8000_0000_0000_0000 + u128::from(n)).to_be_bytes(),
        at_micros: 1_795_000_000_000_000 + n * 12,
        duration_micros: 800_000 + n * 977 % 100_000,
        first_token_micros: (!n.is_multiple_of(7)).then_some(120_000 + n),
        status: if n.is_multiple_of(50) { 502 } else { 200 },
        tokens_input: Some(1_000 + n % 300),
        cost: Some(377_700_000 + n * 1_000),
        texts: Texts::pack(&texts),
        ..Record::default()
    })
}

#[test]
fn a_usual_record_takes_a_fraction_of_its_archive() {
    let records: Vec<_> = (0..400).map(usual).collect();
    let packed = check(&records);
    let (archive, _) = super::super::archive_rows(&records, FrameBuffer::new()).unwrap();
    assert!(packed * 4 < archive.len(), "{packed} of {}", archive.len());
    // One alone is smaller too.
    let packed = check(&records[..1]);
    let (archive, _) = super::super::archive_rows(&records[..1], FrameBuffer::new()).unwrap();
    assert!(packed * 2 < archive.len(), "{packed} of {}", archive.len());
}

#[test]
fn no_record_and_extreme_numbers_come_back() {
    check(&[]);
    let extreme = |n: u64| {
        Box::new(Record {
            id: [0xff; 16],
            at_micros: n,
            duration_micros: u64::MAX,
            cost: Some(u64::MAX - n),
            tokens_output: (n > 0).then_some(n),
            texts: Texts::pack(&[b""; TEXTS]),
            ..Record::default()
        })
    };
    check(&[extreme(0), extreme(u64::MAX), extreme(256), extreme(65_536)]);
}

#[test]
fn texts_that_differ_too_much_are_kept_each() {
    // More different ones than codes, some of them long; the last column of a few only.
    let names: Vec<String> = (0..1_000)
        .map(|n| format!("{n}{}", "x".repeat(n % 300)))
        .collect();
    let records: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let few = &names[n % 200];
            let rare = if n == 999 { "late" } else { "" };
            let mut texts = [name.as_bytes(); TEXTS];
            texts[1] = few.as_bytes();
            texts[TEXTS - 1] = rare.as_bytes();
            with_texts(&texts)
        })
        .collect();
    check(&records);
    // Differing ones are not looked up for ever, alike ones that come late are found.
    let late: Vec<_> = (0..2_000usize)
        .map(|n| with_texts(&[names[if n < 10 { n } else { n % 40 }].as_bytes(); TEXTS]))
        .collect();
    check(&late);
}

#[test]
fn a_packer_forgets_the_frame_before() {
    let mut packer = Packer::default();
    for range in [0..300, 5..6, 100..420] {
        let records: Vec<_> = range.map(usual).collect();
        let mut out = FrameBuffer::new();
        packer.pack(&records, &mut out).unwrap();
        assert_eq!(out[..], pack(&records));
    }
}

#[test]
fn a_little_frame_cannot_stand_for_much_text() {
    // One text of a mebibyte, for each of many rows.
    let long = vec![b'a'; 1 << 20];
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[0] = &long;
    let packed = pack(&[with_texts(&texts)]);
    assert!(unpack(&packed, 1).is_ok());
    assert_eq!(unpack(&packed, 33).err(), Some(PayloadError::Rows));
    assert_eq!(
        unpack(&packed, ROWS_MAX + 1).err(),
        Some(PayloadError::Count)
    );
    let records: Vec<_> = (0..33).map(|_| with_texts(&texts)).collect();
    assert_eq!(
        Packer::default().pack(&records, &mut FrameBuffer::new()),
        None
    );
}

#[test]
fn columns_of_a_later_version_are_passed_over_and_missing_ones_are_unknown() {
    let records: Vec<_> = (0..5).map(usual).collect();
    let mut later = FrameBuffer::new();
    Packer::default().pack(&records, &mut later).unwrap();
    let mut later = later.to_vec();
    later[1] += 1;
    later.extend_from_slice(&[TEXT_SAME, 1, b'x']);
    let back = unpack(&later, 5).unwrap();
    assert!(back.iter().eq(records.iter().map(|record| &**record)));
    // The ids alone.
    let earlier = [2, 0, 0, 9, 1, 7, 0, 1, 2, 3, 4];
    let back = unpack(&earlier, 5).unwrap();
    assert_eq!((back[0].id[7], back[4].id[15]), (9, 11));
    assert_eq!((back[0].cost, back[0].text(Text::Path).len()), (None, 0));
}

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0..10u64, any::<u64>(), Just(u64::MAX)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_as_they_were(
        cells in vec((any::<u128>(), number(), number(), any::<(u16, u32)>(), 0..9usize), 0..90),
    ) {
        let texts: [&[u8]; 4] = [b"", b"openai", b"anthropic", b"\xff"];
        let records: Vec<_> = cells
            .iter()
            .map(|(id, one, two, (status, flags), text)| {
                let own = id.to_le_bytes();
                let text = texts.get(*text).copied().unwrap_or(&own);
                Box::new(Record {
                    id: id.to_be_bytes(),
                    at_micros: one.unwrap_or(3),
                    cost: *one,
                    tokens_input: *two,
                    status: *status,
                    flags: *flags,
                    texts: Texts::pack(&[text; TEXTS]),
                    ..Record::default()
                })
            })
            .collect();
        check(&records);
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused_or_read_without_a_panic(
        mut bytes in vec(any::<u8>(), 0..300),
        rows in 0usize..70_000,
        cut in any::<prop::sample::Index>(),
        records in 0u64..40,
    ) {
        let _ = unpack(&bytes, rows);
        // The same with something right before it.
        let records: Vec<_> = (0..records).map(usual).collect();
        let mut packed = pack(&records);
        packed.truncate(cut.index(packed.len()));
        packed.append(&mut bytes);
        let _ = unpack(&packed, records.len());
    }
}
