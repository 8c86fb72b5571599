//! The rows of a segment → blocks.

use hashbrown::HashMap;

use super::collect::{Found, Row, Segment, ValueId};
use super::{
    BLOCK_ROWS, BlockEntry, KEY_RATE_BITS, MAX_KEYS, MAX_LISTED_VALUES, OWN_BLOCK_ROWS, VALUE_RATE_BITS,
    kind, write_section,
};
use crate::block::ints;
use crate::block::parquet::thrift::{write_varint, zigzag};
use crate::index::fingerprint::{self, hash_texts, hash_value};
use model::columns::Value;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Frames below this are not worth compressing.
const MIN_COMPRESS_BYTES: usize = 128;
/// The code of a key that a span has not.
const ABSENT: u16 = 0;
/// The code of a key whose value is not said.
const UNSAID: u16 = 1;
/// Rows with equal keys whose values are taken key by key: few enough to stay near.
const STEP_ROWS: usize = 256;
/// Values of a key that are found without its map.
const N_RECENT: usize = 32;

/// Writes blocks, one behind the other.
pub(super) struct BlockWriter {
    /// The blocks so far.
    pub(super) out: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

impl BlockWriter {
    pub(super) fn new(zstd_level: i32) -> Self {
        let zstd = zstd::bulk::Compressor::new(zstd_level).expect("invariant: the level is one of zstd's");
        Self { out: Vec::new(), zstd, compressed: Vec::new() }
    }

    /// Appends the blocks of a segment, and tells what the directory says of them.
    pub(super) fn write(&mut self, segment: &Segment) -> Vec<BlockEntry> {
        let mut blocks = Vec::new();
        let mut operations = by_operation(segment);
        for of_service in operations.chunk_by_mut(|a, b| a.service == b.service) {
            // Operations with few spans share blocks.
            let mut shared: Vec<Timed> = Vec::new();
            for operation in of_service {
                if operation.rows.len() >= OWN_BLOCK_ROWS {
                    self.write_sorted(segment, &mut operation.rows, &mut blocks);
                    continue;
                }
                shared.extend_from_slice(&operation.rows);
                if shared.len() >= BLOCK_ROWS / 2 {
                    self.write_sorted(segment, &mut shared, &mut blocks);
                }
            }
            self.write_sorted(segment, &mut shared, &mut blocks);
        }
        blocks
    }

    /// Writes rows of one service, of which none are left.
    fn write_sorted(&mut self, segment: &Segment, rows: &mut Vec<Timed>, blocks: &mut Vec<BlockEntry>) {
        if !rows.is_empty() {
            rows.sort_unstable();
            self.write_run(segment, rows, blocks);
            rows.clear();
        }
    }

    /// Cuts rows of one service, ascending by start, into blocks of about the same size.
    fn write_run(&mut self, segment: &Segment, rows: &[Timed], blocks: &mut Vec<BlockEntry>) {
        let n_blocks = rows.len().div_ceil(BLOCK_ROWS).max(1);
        for rows in rows.chunks(rows.len().div_ceil(n_blocks).max(1)) {
            let start = self.out.len() as u64;
            // Copied side by side: they lie anywhere in the segment, and are looked at many times.
            let mut rows: Vec<Row> = rows.iter().map(|&(_, row)| segment.rows[row as usize]).collect();
            let (min_start_us, max_start_us) = (rows[0].start_us, rows[rows.len() - 1].start_us);
            self.write_block(segment, &mut rows);
            let durations = rows.iter().map(|row| row.duration);
            blocks.push(BlockEntry {
                service: segment.services.get(rows[0].service).to_owned(),
                place: start..self.out.len() as u64,
                first_unit: segment.first_unit,
                rows: rows.len(),
                min_start_us,
                max_start_us,
                durations: (durations.clone().min().unwrap_or(0), durations.max().unwrap_or(0)),
                has_errors: segment.has_errors(&rows),
            });
        }
    }

    fn write_block(&mut self, segment: &Segment, rows: &mut [Row]) {
        // Spans of one shape have the same keys, whose codes then are runs.
        rows.sort_by_key(|row| row.shape);
        let mut starts = Vec::new();
        ints::write(&mut starts, &rows.iter().map(|row| row.start_us).collect::<Vec<_>>());
        self.frame(&starts);
        self.codes(256, rows.iter().map(|row| row.unit.into()));
        self.codes(256, rows.iter().map(|row| row.duration.into()));

        let (shapes, codes) = numbered(rows.iter().map(|row| row.shape));
        let mut listed = Vec::new();
        for &shape in &shapes {
            let shape = &segment.shapes[shape as usize];
            for text in [shape.name, shape.scope_name, shape.scope_version] {
                write_section(&mut listed, segment.values.texts.bytes_of(text));
            }
            write_varint(&mut listed, zigzag(shape.kind.into()));
            write_varint(&mut listed, zigzag(shape.status.into()));
            listed.push(shape.flags);
        }
        self.frame(&listed);
        self.codes(shapes.len(), codes.into_iter());

        let (resources, codes) = numbered(rows.iter().map(|row| row.resource));
        listed.clear();
        for &resource in &resources {
            write_section(&mut listed, segment.resources.bytes_of(resource));
        }
        self.frame(&listed);
        self.codes(resources.len(), codes.into_iter());
        self.attributes(segment, rows);
    }

    fn attributes(&mut self, segment: &Segment, rows: &[Row]) {
        // How many spans have these keys in this order.
        let mut of_keys: Vec<u32> = vec![0; segment.keys.len()];
        for row in rows {
            of_keys[row.keys as usize] += 1;
        }
        // By key: how many spans have it, then the place of its column.
        let mut of_key: Vec<u32> = vec![0; segment.key_names.len()];
        for (n, keys) in of_keys.iter().zip(&segment.keys).filter(|(n, _)| **n > 0) {
            keys.iter().for_each(|&key| of_key[key as usize] += n);
        }
        let mut keys: Vec<(u32, u32)> =
            (0..).zip(&of_key).filter(|(_, n)| **n > 0).map(|(key, n)| (*n, key)).collect();
        keys.sort_unstable_by_key(|&(n, key)| (std::cmp::Reverse(n), key));
        let others = keys.split_off(keys.len().min(MAX_KEYS));
        let mut set = Vec::new();
        if !others.is_empty() {
            let hashes = others.iter().map(|&(_, key)| hash_texts("", segment.key_names.get(key)));
            fingerprint::write(&mut set, hashes, KEY_RATE_BITS);
        }
        write_section(&mut self.out, &set);
        write_varint(&mut self.out, keys.len() as u64);
        let mut columns: Vec<KeyColumn> = keys.iter().map(|_| KeyColumn::new(rows.len())).collect();
        for &(_, key) in &others {
            of_key[key as usize] = u32::MAX;
        }
        for (place, &(_, key)) in (0..).zip(&keys) {
            of_key[key as usize] = place;
        }
        let mut first = 0;
        for alike in rows.chunk_by(|a, b| a.keys == b.keys).flat_map(|alike| alike.chunks(STEP_ROWS)) {
            // Key by key, so that what is known of a key's values is at hand.
            for (nth, &key) in segment.keys[alike[0].keys as usize].iter().enumerate() {
                if let Some(column) = columns.get_mut(of_key[key as usize] as usize) {
                    column.extend(first, alike.iter().map(|row| segment.nth_value(row, nth)));
                }
            }
            first += alike.len();
        }
        for column in &mut columns {
            column.is_listed = column.is_listed && !column.values.iter().any(|value| value.is_long());
        }
        for (column, (_, key)) in columns.iter().zip(keys) {
            write_section(&mut self.out, segment.key_names.bytes_of(key));
            self.key(segment, column);
        }
    }

    fn key(&mut self, segment: &Segment, column: &KeyColumn) {
        if column.is_listed {
            let mut listed = Vec::new();
            for &value in &column.values {
                if let Found::Value(value) = segment.values.get(value) {
                    write_value(&mut listed, value);
                }
            }
            self.out.push(0);
            self.frame(&listed);
            return self.codes(column.values.len() + 2, column.codes.iter().copied());
        }
        let mut kinds = 0;
        let mut hashes = Vec::new();
        let mut values = column.values.clone();
        values.sort_unstable();
        values.dedup();
        for value in values {
            let (kind, hash) = match segment.values.get(value) {
                Found::Value(Value::Empty) => (kind::EMPTY, None),
                Found::Value(Value::String(text)) => (kind::STRING, Some(hash_value(text.as_bytes()))),
                Found::Value(Value::Json(text)) => (kind::JSON, Some(hash_value(text.as_bytes()))),
                Found::Value(Value::Int(_)) => (kind::INT, None),
                Found::Value(Value::Double(_)) => (kind::DOUBLE, None),
                Found::Value(Value::Bool(_)) => (kind::BOOL, None),
                Found::LongString(hash) => (kind::STRING, Some(hash)),
                Found::LongJson(hash) => (kind::JSON, Some(hash)),
            };
            kinds |= kind::bit(kind);
            hashes.extend(hash);
        }
        let mut set = Vec::new();
        fingerprint::write(&mut set, hashes.into_iter(), VALUE_RATE_BITS);
        self.out.extend([2, kinds]);
        write_section(&mut self.out, &set);
        self.codes(2, column.codes.iter().map(|&code| code.min(UNSAID)));
    }

    /// One code a row, of `n` that there may be.
    fn codes(&mut self, n: usize, codes: impl Iterator<Item = u16> + Clone) {
        let mut rest = codes.clone();
        let first = rest.next();
        let n_written =
            if first.is_some_and(|first| rest.all(|code| code == first)) { 1 } else { usize::MAX };
        let mut plain = Vec::with_capacity(BLOCK_ROWS);
        if n <= 256 {
            plain.extend(codes.take(n_written).map(|code| code as u8));
        } else {
            plain.extend(codes.take(n_written).flat_map(u16::to_le_bytes));
        }
        self.frame(&plain);
    }

    fn frame(&mut self, plain: &[u8]) {
        let mut is_compressed = plain.len() >= MIN_COMPRESS_BYTES;
        if is_compressed {
            self.compressed.clear();
            self.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            self.zstd
                .compress_to_buffer(plain, &mut self.compressed)
                .expect("invariant: the buffer has the size that zstd asks for");
            is_compressed = self.compressed.len() * 20 < plain.len() * 19;
        }
        write_varint(&mut self.out, (plain.len() as u64) << 1 | u64::from(is_compressed));
        if is_compressed {
            write_section(&mut self.out, &self.compressed);
        } else {
            self.out.extend_from_slice(plain);
        }
    }
}

/// A row of a segment, and before it when it starts, for sorting.
type Timed = (i64, u32);

/// The rows of an operation.
struct Operation {
    service: u32,
    name: u32,
    rows: Vec<Timed>,
}

/// The rows of a segment by service and operation.
fn by_operation(segment: &Segment) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut places: FastMap<(u32, u32), usize> = FastMap::default();
    // By shape the place that came last: spans of one shape are mostly of one service.
    let mut last: Vec<usize> = vec![usize::MAX; segment.shapes.len()];
    for (row, of_row) in (0..).zip(&segment.rows) {
        let last = &mut last[of_row.shape as usize];
        if operations.get(*last).is_none_or(|operation| operation.service != of_row.service) {
            let (service, name) = (of_row.service, segment.shapes[of_row.shape as usize].name);
            *last = *places.entry((service, name)).or_insert(operations.len());
            if *last == operations.len() {
                operations.push(Operation { service, name, rows: Vec::new() });
            }
        }
        operations[*last].rows.push((of_row.start_us, row));
    }
    operations.sort_unstable_by_key(|operation| (operation.service, operation.name));
    operations
}

/// The values of one key in a block.
struct KeyColumn {
    /// By row.
    codes: Vec<u16>,
    /// Distinct ones in the order of their codes while they are listed; else each at least once.
    values: Vec<ValueId>,
    places: FastMap<ValueId, u16>,
    /// Values that came last, and their places, by bits of their ids.
    recent: [(Option<ValueId>, u16); N_RECENT],
    is_listed: bool,
}

impl KeyColumn {
    fn new(n_rows: usize) -> Self {
        Self {
            codes: vec![ABSENT; n_rows],
            values: Vec::new(),
            places: FastMap::default(),
            recent: [(None, 0); N_RECENT],
            is_listed: true,
        }
    }

    /// Takes values of the rows from `first_row` on.
    fn extend(&mut self, first_row: usize, values: impl ExactSizeIterator<Item = ValueId>) {
        let rows = first_row..first_row + values.len();
        for (row, value) in rows.zip(values) {
            let recent = value.recent(N_RECENT);
            let place = match self.recent[recent] {
                (Some(other), place) if other == value => place,
                _ => {
                    let place = self.place(value);
                    self.recent[recent] = (Some(value), place);
                    place
                }
            };
            let code = &mut self.codes[row];
            *code = if *code == ABSENT { place + 2 } else { UNSAID };
        }
    }

    fn place(&mut self, value: ValueId) -> u16 {
        if !self.is_listed {
            // Which value it is, no code will say.
            self.values.push(value);
            return 0;
        }
        let next = self.values.len();
        let place = *self.places.entry(value).or_insert(next as u16);
        if usize::from(place) == next {
            self.values.push(value);
        }
        self.is_listed = self.values.len() <= MAX_LISTED_VALUES;
        place
    }
}

fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Empty => out.push(kind::EMPTY),
        Value::String(text) => {
            out.push(kind::STRING);
            write_section(out, text.as_bytes());
        }
        Value::Json(text) => {
            out.push(kind::JSON);
            write_section(out, text.as_bytes());
        }
        Value::Int(number) => {
            out.push(kind::INT);
            write_varint(out, zigzag(number));
        }
        Value::Double(number) => {
            out.push(kind::DOUBLE);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Bool(truth) => out.extend([kind::BOOL, u8::from(truth)]),
    }
}

/// Distinct numbers in the order in which they come, and the place of each.
fn numbered(numbers: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u16>) {
    let mut places: FastMap<u32, u16> = FastMap::default();
    let mut distinct: Vec<u32> = Vec::new();
    let mut codes = Vec::with_capacity(BLOCK_ROWS);
    for number in numbers {
        let next = distinct.len() as u16;
        let place = *places.entry(number).or_insert(next);
        if place == next {
            distinct.push(number);
        }
        codes.push(place);
    }
    (distinct, codes)
}
