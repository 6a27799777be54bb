use proptest::{collection::vec, option, prelude::*};

use super::{build::BlockBuilder, *};
use crate::{
    control::logs::frame::{self, FrameBuffer},
    domain::record::flag,
};

/// A block as it lies in a file: header and payload.
fn block(records: &[Record]) -> (Header, FrameBuffer) {
    let mut builder = BlockBuilder::default();
    for (n, record) in records.iter().enumerate() {
        builder.push(record, n as u64 / 3);
    }
    finish(&mut builder)
}

fn finish(builder: &mut BlockBuilder) -> (Header, FrameBuffer) {
    let (mut frame, header) = builder.finish(FrameBuffer::new()).unwrap();
    frame::seal(&mut frame, header, 0);
    let header = Header::read(frame[..64].try_into().unwrap(), 0).unwrap();
    let mut payload = FrameBuffer::new();
    payload.extend_from_slice(&frame[64..64 + header.length as usize]);
    assert!(header.matches(&payload));
    (header, payload)
}

fn all(header: &Header, payload: &[u8]) -> Result<Vec<Record>, BlockError> {
    let verified = Verified::default();
    let block = Block::open(header, payload, &verified)?;
    let reader = block.reader()?;
    Ok((0..block.rows())
        .map(|row| reader.record(row).unwrap())
        .collect())
}

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0..10u64, any::<u64>(), Just(u64::MAX)])
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"openai".to_vec()),
        vec(any::<u8>(), 0..40),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let fixed = (
        any::<[u8; 16]>(),
        vec(number(), NUMBERS),
        any::<(u16, u8, u8, u8, u32)>(),
    );
    (fixed, vec(text(), TEXTS)).prop_map(|((id, numbers, small), texts)| {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let always = |n: usize| numbers[n].unwrap_or(7);
        Record {
            id,
            at_micros: always(0),
            duration_micros: always(1),
            first_byte_micros: numbers[2],
            first_token_micros: numbers[3],
            overhead_micros: always(4),
            request_bytes: always(5),
            response_bytes: always(6),
            tokens_input: numbers[7],
            tokens_output: numbers[8],
            tokens_cache_read: numbers[9],
            tokens_cache_write: numbers[10],
            tokens_cache_write_hour: numbers[11],
            tokens_reasoning: numbers[12],
            cost: numbers[13],
            price_table: always(14),
            status: small.0,
            outcome: small.1,
            step: small.2,
            attempt: small.3,
            flags: small.4,
            texts: Texts::pack(&texts.try_into().unwrap()),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_from_their_block_as_they_were(
        records in vec(record(), 1..200),
        frame_rows in 1..100usize,
    ) {
        let (header, payload) = block(&records);
        prop_assert_eq!(all(&header, &payload).unwrap(), &records[..]);

        // The same from records that lie in row frames, in a builder that was used before.
        let boxes: Vec<Box<Record>> = records.iter().cloned().map(Box::new).collect();
        for encode in [frame::encode_rows, frame::archive_rows] {
            let mut builder = BlockBuilder::default();
            builder.push(&records[0], 1);
            finish(&mut builder);
            for (journal, boxes) in boxes.chunks(frame_rows).enumerate() {
                let (rows, rows_header) = encode(boxes, FrameBuffer::new()).unwrap();
                let rows = &rows[64..64 + rows_header.length as usize];
                let rows = frame::rows(&rows_header, rows).unwrap();
                // As where a block ends within a frame.
                let middle = boxes.len() / 3;
                builder.push_rows(&rows, 0..middle, journal as u64);
                builder.push_rows(&rows, middle..boxes.len(), journal as u64);
            }
            let (_, again) = finish(&mut builder);
            let mut builder = BlockBuilder::default();
            for (n, record) in records.iter().enumerate() {
                builder.push(record, (n / frame_rows) as u64);
            }
            let (_, expected) = finish(&mut builder);
            prop_assert!(again[..] == expected[..], "the same bytes");
        }
    }

    #[test]
    fn the_zone_holds_every_row(records in vec(record(), 1..50)) {
        let (header, payload) = block(&records);
        let zone = Block::zone_of(&header, &payload).unwrap();
        prop_assert_eq!(zone.rows as usize, records.len());
        let unlogged = records.iter().filter(|record| !record.is_logged()).count();
        prop_assert_eq!(zone.unlogged as usize, unlogged);
        for record in &records {
            prop_assert!(zone.at.meets(record.at_micros, record.at_micros));
            prop_assert!((zone.id_min..=zone.id_max).contains(&record.id));
            prop_assert_eq!(record.flags & !zone.flags_any, 0);
            prop_assert_eq!(zone.flags_all & !record.flags, 0);
            prop_assert!(zone.outcomes & 1 << record.outcome.min(31) != 0);
            if let Some(cost) = record.cost {
                prop_assert!(zone.cost.meets(cost, cost));
            }
        }
        let costs = records.iter().filter_map(|record| record.cost);
        prop_assert_eq!(zone.cost.is_empty(), costs.clone().count() == 0);
        prop_assert_eq!(zone.cost.max, costs.max().unwrap_or(0));
    }

    #[test]
    fn no_flipped_bit_alters_a_record(
        records in vec(record(), 1..20),
        bits in vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let (header, mut payload) = block(&records);
        for bit in bits {
            let bit = bit.index(payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
        }
        // Padding between columns has no checksum of its own and does not matter.
        if let Ok(back) = all(&header, &payload) {
            prop_assert_eq!(back, records);
        }
    }

    #[test]
    fn bytes_that_are_no_block_are_refused(
        bytes in vec(any::<u8>(), 0..2_000),
        rows in 0u32..10,
    ) {
        let mut payload = FrameBuffer::new();
        payload.extend_from_slice(&bytes);
        let header = Header { rows, ..block(&[Record::default()]).0 };
        prop_assert!(all(&header, &payload).is_err());
    }
}

fn numbered(n: u64) -> Record {
    let model = format!("model-{}", n % 3);
    let request = format!("req_{n}");
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Model as usize] = model.as_bytes();
    texts[Text::UpstreamRequestId as usize] = request.as_bytes();
    Record {
        id: u128::from(n).to_be_bytes(),
        at_micros: n,
        cost: (!n.is_multiple_of(2)).then_some(n),
        tokens_input: Some(n),
        flags: flag::STREAM,
        texts: Texts::pack(&texts),
        ..Record::default()
    }
}

#[test]
fn columns_are_slices_with_a_dictionary_and_a_bitmap() {
    let records: Vec<Record> = (0..200).map(numbered).collect();
    let (header, payload) = block(&records);
    let verified = Verified::default();
    let block = Block::open(&header, &payload, &verified).unwrap();
    assert_eq!((block.rows(), block.zone().at.max), (200, 199));
    let Numbers::Some { values, known } = block.numbers(Number::Cost).unwrap() else {
        panic!("half of the costs are known");
    };
    let sum: u64 = values.iter().sum();
    assert_eq!(sum, (0..200).filter(|n| n % 2 == 1).sum::<u64>());
    assert_eq!(known.len(), 4);
    assert_eq!(known[3].to_native(), 0xaa, "bits beyond the rows are 0");
    assert!(matches!(
        block.numbers(Number::TokensInput).unwrap(),
        Numbers::Each(values) if values.len() == 200
    ));
    assert!(matches!(
        block.numbers(Number::TokensReasoning).unwrap(),
        Numbers::Unknown
    ));
    let TextCells::Coded { codes, strings } = block.texts(Text::Model).unwrap() else {
        panic!("models have codes");
    };
    assert!(matches!(codes, Slots::One(codes) if codes.len() == 200));
    assert!(
        strings
            .iter()
            .eq([&b""[..], b"model-0", b"model-1", b"model-2"])
    );
    assert!(matches!(
        block.texts(Text::UpstreamRequestId).unwrap(),
        TextCells::Each(strings) if strings.get(17) == b"req_17"
    ));
    assert!(matches!(block.texts(Text::Key).unwrap(), TextCells::Empty));
    let sources: Vec<_> = block.sources().unwrap().collect();
    assert_eq!(sources[..2], [(0, 3), (1, 3)]);
    assert_eq!(sources.iter().map(|(_, rows)| rows).sum::<usize>(), 200);
    let Slots::One(cells) = values.slots else {
        panic!("numbers below 256 take a byte");
    };
    let start = cells.as_ptr().addr() - payload.as_ptr().addr();
    assert_eq!(start % 8, 0);
}

#[test]
fn a_damaged_column_spares_the_others() {
    let records: Vec<Record> = (0..100).map(numbered).collect();
    let (header, mut payload) = block(&records);
    let place = {
        let verified = Verified::default();
        let block = Block::open(&header, &payload, &verified).unwrap();
        let Numbers::Each(values) = block.numbers(Number::TokensInput).unwrap() else {
            panic!("all are known");
        };
        let Slots::One(cells) = values.slots else {
            panic!("numbers below 256 take a byte");
        };
        cells.as_ptr().addr() - payload.as_ptr().addr()
    };
    payload[place + 8] ^= 1;
    let verified = Verified::default();
    let block = Block::open(&header, &payload, &verified).unwrap();
    assert!(block.numbers(Number::Cost).is_ok());
    let error = block.numbers(Number::TokensInput).unwrap_err();
    assert_eq!(error, Column::Number(Number::TokensInput).damaged());
    assert_eq!(block.reader().unwrap_err(), error);
    assert_eq!(error.to_string(), "column 15 of the block is damaged");
}

#[test]
fn a_column_is_as_wide_as_its_greatest_number() {
    const START: u64 = 1_792_627_200_000_000;
    for (greatest, width) in [
        (0xff, 1),
        (0x100, 2),
        (0xffff, 2),
        (0x1_0000, 4),
        (0xffff_ffff, 4),
        (1 << 32, 8),
        (u64::MAX - START, 8),
    ] {
        for rows in [2, 63, 64, 65, 71, 200] {
            let number = |n: u64| if n == 1 { greatest } else { n };
            let record = |n: u64| Record {
                at_micros: START + number(n),
                duration_micros: number(n),
                cost: (n % 3 == 1).then_some(number(n)),
                ..Record::default()
            };
            let records: Vec<Record> = (0..rows).map(record).collect();
            let (header, payload) = block(&records);
            assert_eq!(all(&header, &payload).unwrap(), records);
            let verified = Verified::default();
            let block = Block::open(&header, &payload, &verified).unwrap();
            for number in [Number::At, Number::Duration, Number::Cost] {
                let (Numbers::Each(values) | Numbers::Some { values, .. }) =
                    block.numbers(number).unwrap()
                else {
                    panic!("{number:?} is known");
                };
                let found = match values.slots {
                    Slots::One(_) => 1,
                    Slots::Two(_) => 2,
                    Slots::Four(_) => 4,
                    Slots::Eight(_) => 8,
                };
                let wanted = if rows < 64 { 8 } else { width };
                assert_eq!(found, wanted, "{number:?} {greatest} {rows}");
            }
        }
    }
}

#[test]
fn a_block_is_full_by_rows_or_by_text() {
    let mut builder = BlockBuilder::default();
    assert!(builder.is_empty() && builder.finish(FrameBuffer::new()).is_none());
    for n in 0..BLOCK_ROWS as u64 {
        assert!(!builder.is_full());
        // Every model differs: the dictionary takes as many as there are rows.
        let model = n.to_string();
        let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
        texts[Text::Model as usize] = model.as_bytes();
        builder.push(
            &Record {
                texts: Texts::pack(&texts),
                ..Record::default()
            },
            0,
        );
    }
    assert!(builder.is_full());
    let (header, payload) = finish(&mut builder);
    let back = all(&header, &payload).unwrap();
    assert!(
        back.iter()
            .enumerate()
            .all(|(n, record)| record.text(Text::Model) == n.to_string())
    );
    let long = vec![b'x'; 17 << 20];
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    texts[Text::Path as usize] = &long;
    builder.push(
        &Record {
            texts: Texts::pack(&texts),
            ..Record::default()
        },
        0,
    );
    assert!(builder.is_full());
    assert_eq!(builder.finish(FrameBuffer::new()).unwrap().1.rows, 1);
}
