//! A block → the spans that may meet conditions.

use std::borrow::Cow;

use model::attribute::{self, AnyValue};
use model::columns::Value;
use model::search::{Condition, TraceSearch};
use model::spans::STATUS_ERROR;

use super::{BLOCK_ROWS, BlockEntry, duration_code, kind, read_section, read_text};
use crate::block::ints;
use crate::block::parquet::Invalid;
use crate::block::parquet::read::decompress;
use crate::block::parquet::thrift::{read_varint, take, unzigzag};
use crate::index::fingerprint::{self, hash_texts, hash_value};

/// The largest frame that a reader accepts: texts of one block.
const MAX_FRAME_BYTES: usize = 256 << 20;

/// A span that meets the conditions of a search, or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Its start, whole microseconds since the epoch.
    pub start_us: i64,
    /// Its unit in the file.
    pub unit: u32,
    /// Whether it certainly meets the conditions.
    pub is_certain: bool,
}

/// What a block says of a span and a condition; the least of several conditions is what it says of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Meets {
    No,
    Maybe,
    Yes,
}

/// The same of every row, or of each.
#[derive(Debug, Clone)]
enum States {
    All(Meets),
    Each(Vec<Meets>),
}

impl States {
    /// Combines two by `choose`, which is the least or the greatest.
    fn with(self, other: Self, choose: impl Fn(Meets, Meets) -> Meets) -> Self {
        match (self, other) {
            (Self::All(a), Self::All(b)) => Self::All(choose(a, b)),
            (Self::All(all), Self::Each(mut each)) | (Self::Each(mut each), Self::All(all)) => {
                for state in &mut each {
                    *state = choose(*state, all);
                }
                Self::Each(each)
            }
            (Self::Each(mut a), Self::Each(b)) => {
                for (a, b) in a.iter_mut().zip(b) {
                    *a = choose(*a, b);
                }
                Self::Each(a)
            }
        }
    }

    fn is_none(&self) -> bool {
        match self {
            Self::All(all) => *all == Meets::No,
            Self::Each(each) => each.iter().all(|&state| state == Meets::No),
        }
    }
}

impl BlockEntry {
    /// Whether some span of the block may be one that is searched for.
    pub fn may_match(&self, search: &TraceSearch) -> bool {
        let (first_ns, last_ns) = (
            self.min_start_us.saturating_mul(1000),
            self.max_start_us.saturating_mul(1000).saturating_add(999),
        );
        search.range.meets(first_ns, last_ns)
            && search.conditions.iter().all(|condition| self.may_meet(condition))
    }

    fn may_meet(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Service(service) => self.service == *service,
            Condition::DurationAtLeast(least) => self.durations.1 >= duration_code(*least),
            Condition::DurationAtMost(most) => self.durations.0 <= duration_code(*most),
            Condition::Status(STATUS_ERROR) => self.has_errors,
            Condition::Any(any) => any.iter().any(|condition| self.may_meet(condition)),
            _ => true,
        }
    }
}

/// A block that was fetched.
pub struct Block<'a> {
    entry: &'a BlockEntry,
    starts: Frame<'a>,
    units: Frame<'a>,
    durations: Frame<'a>,
    shapes: Frame<'a>,
    shape_codes: Frame<'a>,
    resources: Frame<'a>,
    resource_codes: Frame<'a>,
    other_keys: &'a [u8],
    n_keys: u64,
    keys: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block of which the directory says `entry`.
    ///
    /// # Errors
    /// The bytes are not one.
    pub fn open(entry: &'a BlockEntry, mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        let bytes = &mut bytes;
        Ok(Self {
            entry,
            starts: Frame::take(bytes)?,
            units: Frame::take(bytes)?,
            durations: Frame::take(bytes)?,
            shapes: Frame::take(bytes)?,
            shape_codes: Frame::take(bytes)?,
            resources: Frame::take(bytes)?,
            resource_codes: Frame::take(bytes)?,
            other_keys: read_section(bytes)?,
            n_keys: read_varint(bytes)?,
            keys: bytes,
        })
    }

    /// The spans that meet all conditions of a search and start in its range, or may.
    ///
    /// # Errors
    /// The block is corrupt.
    pub fn matches(&self, search: &TraceSearch) -> Result<Vec<Match>, Invalid> {
        let mut states = States::All(Meets::Yes);
        // What one column tells comes before what attributes tell.
        let (dear, cheap): (Vec<&Condition>, Vec<&Condition>) =
            search.conditions.iter().partition(|condition| asks_much(condition));
        for condition in cheap.into_iter().chain(dear) {
            states = states.with(self.states(condition)?, Ord::min);
            if states.is_none() {
                return Ok(Vec::new());
            }
        }
        let n_rows = self.entry.rows;
        let starts_us = self.starts_us()?;
        let units = Codes::read(self.units, 256, n_rows)?;
        let range = search.range;
        let meets_range = |start_us: i64| {
            let (first_ns, last_ns) =
                (start_us.saturating_mul(1000), start_us.saturating_mul(1000).saturating_add(999));
            match (range.contains(first_ns), range.contains(last_ns)) {
                (true, true) => Meets::Yes,
                _ if range.meets(first_ns, last_ns) => Meets::Maybe,
                _ => Meets::No,
            }
        };
        let mut matches = Vec::new();
        for (row, start_us) in starts_us.into_iter().enumerate() {
            let state = match &states {
                States::All(all) => *all,
                States::Each(each) => each[row],
            };
            if state == Meets::No {
                continue;
            }
            match state.min(meets_range(start_us)) {
                Meets::No => {}
                state => matches.push(Match {
                    start_us,
                    unit: self.entry.first_unit + u32::from(units.get(row)),
                    is_certain: state == Meets::Yes,
                }),
            }
        }
        Ok(matches)
    }

    /// Starts of all spans, microseconds since the epoch.
    fn starts_us(&self) -> Result<Vec<i64>, Invalid> {
        let plain = self.starts.plain()?;
        let mut starts = Vec::new();
        ints::read(&mut &*plain, self.entry.rows, &mut starts)?;
        Ok(starts)
    }

    /// Start and unit of all spans.
    ///
    /// # Errors
    /// The block is corrupt.
    pub(in crate::block::spans) fn spans(&self) -> Result<Vec<(i64, u32)>, Invalid> {
        let units = Codes::read(self.units, 256, self.entry.rows)?;
        let unit = |row: usize| self.entry.first_unit + u32::from(units.get(row));
        Ok(self.starts_us()?.into_iter().enumerate().map(|(row, start_us)| (start_us, unit(row))).collect())
    }

    fn states(&self, condition: &Condition) -> Result<States, Invalid> {
        match condition {
            Condition::Service(service) => {
                Ok(States::All(if self.entry.service == *service { Meets::Yes } else { Meets::No }))
            }
            Condition::Name(name) => self.by_shape(|shape| certain(shape.name == name)),
            Condition::ScopeName(name) => self.by_shape(|shape| certain(shape.scope_name == name)),
            Condition::ScopeVersion(version) => {
                self.by_shape(|shape| certain(shape.scope_version == version))
            }
            Condition::Kind(kind) => self.by_shape(|shape| certain(shape.kind == i64::from(*kind))),
            Condition::Status(code) => self.by_shape(|shape| certain(shape.status == i64::from(*code))),
            Condition::StatusMessage(message) => {
                self.by_shape(|shape| text_there(message, shape.flags & 1 != 0))
            }
            Condition::TraceState(state) => self.by_shape(|shape| text_there(state, shape.flags & 2 != 0)),
            Condition::DurationAtLeast(least) => {
                let wanted = duration_code(*least);
                self.by_duration(|code| match code.cmp(&wanted) {
                    std::cmp::Ordering::Less => Meets::No,
                    std::cmp::Ordering::Equal => Meets::Maybe,
                    std::cmp::Ordering::Greater => Meets::Yes,
                })
            }
            Condition::DurationAtMost(most) => {
                let wanted = duration_code(*most);
                self.by_duration(|code| match code.cmp(&wanted) {
                    std::cmp::Ordering::Less => Meets::Yes,
                    std::cmp::Ordering::Equal => Meets::Maybe,
                    std::cmp::Ordering::Greater => Meets::No,
                })
            }
            Condition::Attribute { key, value } => {
                let of_resource = self.resources_with(key, value)?;
                Ok(of_resource.with(self.attribute(key, value)?, Ord::max))
            }
            Condition::Any(any) => {
                let mut states = States::All(Meets::No);
                for condition in any {
                    states = states.with(self.states(condition)?, Ord::max);
                }
                Ok(states)
            }
        }
    }

    fn by_shape(&self, meets: impl Fn(&Shape<'_>) -> Meets) -> Result<States, Invalid> {
        let plain = self.shapes.plain()?;
        let mut rest = &*plain;
        let mut by_code = Vec::new();
        while !rest.is_empty() {
            by_code.push(meets(&Shape::take(&mut rest)?));
        }
        self.by_code(self.shape_codes, &by_code)
    }

    fn by_duration(&self, meets: impl Fn(u8) -> Meets) -> Result<States, Invalid> {
        let by_code: Vec<Meets> = (0..=u8::MAX).map(meets).collect();
        self.by_code(self.durations, &by_code)
    }

    fn resources_with(&self, key: &str, value: &str) -> Result<States, Invalid> {
        let mut wanted = String::new();
        attribute::write_key(&mut wanted, key);
        let plain = self.resources.plain()?;
        let mut rest = &*plain;
        let mut by_code = Vec::new();
        while !rest.is_empty() {
            let text = read_text(&mut rest)?;
            by_code.push(certain(text.contains(&wanted) && json_has(text, key, value)?));
        }
        self.by_code(self.resource_codes, &by_code)
    }

    /// What the attributes of the spans and of their events say.
    fn attribute(&self, key: &str, value: &str) -> Result<States, Invalid> {
        let mut rest = self.keys;
        for _ in 0..self.n_keys {
            let found = Key::take(&mut rest)?;
            if found.name == key {
                return match found.values {
                    Values::Listed(listed) => self.listed(listed, found.codes, value),
                    Values::Unlisted { kinds, set, hash } => {
                        let meets =
                            if may_have(kinds, (set, hash), value)? { Meets::Maybe } else { Meets::No };
                        self.by_code(found.codes, &[Meets::No, meets])
                    }
                };
            }
        }
        let may_be_other =
            !self.other_keys.is_empty() && fingerprint::may_contain(self.other_keys, hash_texts("", key))?;
        Ok(States::All(if may_be_other { Meets::Maybe } else { Meets::No }))
    }

    fn listed(&self, listed: Frame<'_>, codes: Frame<'_>, text: &str) -> Result<States, Invalid> {
        let plain = listed.plain()?;
        let mut rest = &*plain;
        let mut by_code = vec![Meets::No, Meets::No];
        while !rest.is_empty() {
            by_code.push(certain(Condition::text_matches(read_value(&mut rest)?, text)));
        }
        if by_code.contains(&Meets::Yes) {
            by_code[1] = Meets::Maybe;
        }
        self.by_code(codes, &by_code)
    }

    /// The states of rows whose codes have these.
    fn by_code(&self, codes: Frame<'_>, by_code: &[Meets]) -> Result<States, Invalid> {
        if let Some((&first, rest)) = by_code.split_first()
            && rest.iter().all(|&state| state == first)
        {
            return Ok(States::All(first));
        }
        let unknown = Invalid("code stands for nothing");
        Ok(match Codes::read(codes, by_code.len(), self.entry.rows)? {
            Codes::All(code) => States::All(*by_code.get(usize::from(code)).ok_or(unknown)?),
            Codes::Narrow(codes) => {
                let mut states = [None; 256];
                for (state, &of_code) in states.iter_mut().zip(by_code) {
                    *state = Some(of_code);
                }
                let state = |code: &u8| states[usize::from(*code)];
                States::Each(codes.iter().map(state).collect::<Option<_>>().ok_or(unknown)?)
            }
            Codes::Wide(codes) => {
                let state = |code: &u16| by_code.get(usize::from(*code)).copied();
                States::Each(codes.iter().map(state).collect::<Option<_>>().ok_or(unknown)?)
            }
        })
    }
}

fn certain(meets: bool) -> Meets {
    if meets { Meets::Yes } else { Meets::No }
}

/// What is said of a text of which is known only whether it is empty.
fn text_there(wanted: &str, is_there: bool) -> Meets {
    match (wanted.is_empty(), is_there) {
        (true, false) => Meets::Yes,
        (false, true) => Meets::Maybe,
        _ => Meets::No,
    }
}

/// Whether looking at more than one column may be needed.
fn asks_much(condition: &Condition) -> bool {
    matches!(condition, Condition::Attribute { .. } | Condition::Any(_))
}

/// Whether a key may have a value that [`Condition::text_matches`] `text` among values that are not listed.
fn may_have(kinds: u8, (set, hash): (&[u8], fn(&str) -> u64), text: &str) -> Result<bool, Invalid> {
    let has = |kind: u8| kinds & kind::bit(kind) != 0;
    Ok(has(kind::EMPTY) && text.is_empty()
        || has(kind::INT) && text.parse::<i64>().is_ok()
        || has(kind::DOUBLE) && text.parse::<f64>().is_ok()
        || has(kind::BOOL) && (text == "true" || text == "false")
        || (has(kind::STRING) || has(kind::JSON)) && fingerprint::may_contain(set, hash(text))?)
}

/// Whether attributes in JSON have the key with a value that [`Condition::text_matches`] `value`.
///
/// # Errors
/// The text is not what the product writes.
pub(crate) fn json_has(text: &str, key: &str, value: &str) -> Result<bool, Invalid> {
    let entries = attribute::parse_map(text).map_err(|_| Invalid("attributes are not their JSON"))?;
    Ok(entries.iter().any(|(other, found)| other == key && any_value_matches(found, value)))
}

/// Whether a value [`Condition::text_matches`] `value`.
pub(crate) fn any_value_matches(found: &AnyValue, value: &str) -> bool {
    let borrowed = match found {
        AnyValue::Empty => Value::Empty,
        AnyValue::String(text) => Value::String(text),
        AnyValue::Bool(truth) => Value::Bool(*truth),
        AnyValue::Int(number) => Value::Int(*number),
        AnyValue::Double(number) => Value::Double(*number),
        nested => {
            let mut json = String::new();
            attribute::write_value(&mut json, nested);
            return Condition::text_matches(Value::Json(&json), value);
        }
    };
    Condition::text_matches(borrowed, value)
}

struct Shape<'a> {
    name: &'a str,
    scope_name: &'a str,
    scope_version: &'a str,
    kind: i64,
    status: i64,
    flags: u8,
}

impl<'a> Shape<'a> {
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Invalid> {
        Ok(Self {
            name: read_text(bytes)?,
            scope_name: read_text(bytes)?,
            scope_version: read_text(bytes)?,
            kind: unzigzag(read_varint(bytes)?),
            status: unzigzag(read_varint(bytes)?),
            flags: take(bytes, 1)?[0],
        })
    }
}

struct Key<'a> {
    name: &'a str,
    values: Values<'a>,
    codes: Frame<'a>,
}

enum Values<'a> {
    Listed(Frame<'a>),
    /// With the hash of texts by which they are in the set.
    Unlisted {
        kinds: u8,
        set: &'a [u8],
        hash: fn(&str) -> u64,
    },
}

impl<'a> Key<'a> {
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Invalid> {
        let name = read_text(bytes)?;
        let values = match take(bytes, 1)?[0] {
            0 => Values::Listed(Frame::take(bytes)?),
            form @ (1 | 2) => Values::Unlisted {
                kinds: take(bytes, 1)?[0],
                set: read_section(bytes)?,
                hash: if form == 1 {
                    |text| hash_texts("", text)
                } else {
                    |text| hash_value(text.as_bytes())
                },
            },
            _ => return Err(Invalid("key has an unknown form")),
        };
        Ok(Self { name, values, codes: Frame::take(bytes)? })
    }
}

fn read_value<'a>(bytes: &mut &'a [u8]) -> Result<Value<'a>, Invalid> {
    Ok(match take(bytes, 1)?[0] {
        kind::EMPTY => Value::Empty,
        kind::STRING => Value::String(read_text(bytes)?),
        kind::JSON => Value::Json(read_text(bytes)?),
        kind::INT => Value::Int(unzigzag(read_varint(bytes)?)),
        kind::DOUBLE => {
            let bits = take(bytes, 8)?.try_into().expect("invariant: as many taken");
            Value::Double(f64::from_le_bytes(bits))
        }
        kind::BOOL => Value::Bool(take(bytes, 1)?[0] == 1),
        _ => return Err(Invalid("value has an unknown kind")),
    })
}

/// Bytes that may be compressed.
#[derive(Clone, Copy)]
struct Frame<'a> {
    plain_len: usize,
    is_compressed: bool,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Invalid> {
        let head = read_varint(bytes)?;
        let plain_len = usize::try_from(head >> 1).ok().filter(|&len| len <= MAX_FRAME_BYTES);
        let plain_len = plain_len.ok_or(Invalid("frame is too long"))?;
        let is_compressed = head & 1 == 1;
        let body = if is_compressed { read_section(bytes)? } else { take(bytes, plain_len)? };
        Ok(Self { plain_len, is_compressed, body })
    }

    fn plain(self) -> Result<Cow<'a, [u8]>, Invalid> {
        if self.is_compressed {
            decompress(self.body, self.plain_len).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.body))
        }
    }
}

/// One code a row.
enum Codes<'a> {
    All(u16),
    Narrow(Cow<'a, [u8]>),
    Wide(Vec<u16>),
}

impl<'a> Codes<'a> {
    /// Of `n` that there may be.
    fn read(frame: Frame<'a>, n: usize, n_rows: usize) -> Result<Self, Invalid> {
        let plain = frame.plain()?;
        let codes = if n <= 256 {
            match &*plain {
                [one] if n_rows != 1 => Self::All(u16::from(*one)),
                _ => Self::Narrow(plain),
            }
        } else {
            let (codes, rest) = plain.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(Invalid("codes are cut off"));
            }
            match codes {
                [one] if n_rows != 1 => Self::All(u16::from_le_bytes(*one)),
                _ => Self::Wide(codes.iter().map(|code| u16::from_le_bytes(*code)).collect()),
            }
        };
        let fits = match &codes {
            Self::All(_) => n_rows <= BLOCK_ROWS,
            Self::Narrow(codes) => codes.len() == n_rows,
            Self::Wide(codes) => codes.len() == n_rows,
        };
        if fits { Ok(codes) } else { Err(Invalid("codes differ in number from rows")) }
    }

    fn get(&self, row: usize) -> u16 {
        match self {
            Self::All(code) => *code,
            Self::Narrow(codes) => u16::from(codes[row]),
            Self::Wide(codes) => codes[row],
        }
    }
}
