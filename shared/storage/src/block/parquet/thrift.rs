//! Thrift's compact protocol: as much of it as page headers and footers need.
//!
//! Source: Apache Thrift, `thrift-compact-protocol.md`.

use super::Invalid;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Appends structs to a buffer. Fields are written in the order of their ids.
#[derive(Default)]
pub struct Writer {
    /// What was written.
    pub out: Vec<u8>,
    last_ids: Vec<i16>,
    last_id: i16,
}

impl Writer {
    fn varint(&mut self, value: u64) {
        write_varint(&mut self.out, value);
    }

    fn field(&mut self, id: i16, kind: u8) {
        let delta = id - self.last_id;
        debug_assert!((1..=15).contains(&delta), "invariant: fields ascend by at most 15");
        self.out.push((delta as u8) << 4 | kind);
        self.last_id = id;
    }

    /// A field of type bool.
    pub fn bool(&mut self, id: i16, value: bool) {
        self.field(id, if value { TRUE } else { FALSE });
    }

    /// A field of type i8.
    pub fn byte(&mut self, id: i16, value: i8) {
        self.field(id, BYTE);
        self.out.push(value as u8);
    }

    /// A field of type i32.
    pub fn i32(&mut self, id: i16, value: i32) {
        self.field(id, I32);
        self.varint(zigzag(i64::from(value)));
    }

    /// A field of type i64.
    pub fn i64(&mut self, id: i16, value: i64) {
        self.field(id, I64);
        self.varint(zigzag(value));
    }

    /// A field of type string.
    pub fn string(&mut self, id: i16, value: &str) {
        self.field(id, BINARY);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// A field that is a struct; `body` writes its fields.
    pub fn structure(&mut self, id: i16, body: impl FnOnce(&mut Self)) {
        self.field(id, STRUCT);
        self.element(body);
    }

    /// A struct that is an element of a list, or the message itself.
    pub fn element(&mut self, body: impl FnOnce(&mut Self)) {
        self.last_ids.push(self.last_id);
        self.last_id = 0;
        body(self);
        self.out.push(0);
        self.last_id = self.last_ids.pop().expect("invariant: pushed above");
    }

    fn list(&mut self, id: i16, kind: u8, len: usize) {
        self.field(id, LIST);
        if len < 15 {
            self.out.push((len as u8) << 4 | kind);
        } else {
            self.out.push(0xf0 | kind);
            self.varint(len as u64);
        }
    }

    /// The head of a list of `len` structs, to be followed by as many [`Writer::element`]s.
    pub fn struct_list(&mut self, id: i16, len: usize) {
        self.list(id, STRUCT, len);
    }

    /// A list of i32.
    pub fn i32_list(&mut self, id: i16, values: &[i32]) {
        self.list(id, I32, values.len());
        for &value in values {
            self.varint(zigzag(i64::from(value)));
        }
    }

    /// A list of strings.
    pub fn string_list(&mut self, id: i16, values: &[&str]) {
        self.list(id, BINARY, values.len());
        for value in values {
            self.varint(value.len() as u64);
            self.out.extend_from_slice(value.as_bytes());
        }
    }
}

/// Appends an unsigned number in groups of seven bits, lowest first.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number with its sign in the lowest bit, so that small ones of either sign are short.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Takes an unsigned number in groups of seven bits off the front of `bytes`.
///
/// # Errors
/// The number is cut off, or has more than ten groups.
pub fn read_varint(bytes: &mut &[u8]) -> Result<u64, Invalid> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(Invalid("number is cut off or too long"))
}

/// Takes `len` bytes off the front of `bytes`.
///
/// # Errors
/// There are fewer.
pub fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Invalid> {
    let (head, tail) = bytes.split_at_checked(len).ok_or(Invalid("data is cut off"))?;
    *bytes = tail;
    Ok(head)
}

/// The numbers of a struct: what a page header consists of.
///
/// `visit` is called with the path of field ids from the outermost struct (two levels at most) and the number;
/// all else is skipped. Consumes the struct from `bytes`.
///
/// # Errors
/// The struct is cut off, nested too deep, or has a list, set or map.
pub fn read_numbers(bytes: &mut &[u8], visit: &mut dyn FnMut(&[i16], i64)) -> Result<(), Invalid> {
    read_struct(bytes, &mut Vec::new(), visit)
}

fn read_struct(
    bytes: &mut &[u8],
    path: &mut Vec<i16>,
    visit: &mut dyn FnMut(&[i16], i64),
) -> Result<(), Invalid> {
    if path.len() > 4 {
        return Err(Invalid("header is nested too deep"));
    }
    let mut last_id = 0i16;
    loop {
        let head = take(bytes, 1)?[0];
        if head == 0 {
            return Ok(());
        }
        let delta = i16::from(head >> 4);
        let id = if delta == 0 { unzigzag(read_varint(bytes)?) as i16 } else { last_id.wrapping_add(delta) };
        last_id = id;
        path.push(id);
        match head & 15 {
            TRUE => visit(path, 1),
            FALSE => visit(path, 0),
            BYTE => visit(path, i64::from(take(bytes, 1)?[0] as i8)),
            4 | I32 | I64 => visit(path, unzigzag(read_varint(bytes)?)),
            BINARY => {
                let len = read_varint(bytes)?;
                take(bytes, usize::try_from(len).map_err(|_| Invalid("text is too long"))?)?;
            }
            STRUCT => read_struct(bytes, path, visit)?,
            _ => return Err(Invalid("header has a field of unexpected type")),
        }
        path.pop();
    }
}

/// The inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nested_structs_come_back() {
        let mut writer = Writer::default();
        writer.element(|w| {
            w.i32(1, -3);
            w.string(2, "skipped");
            w.structure(5, |w| {
                w.i64(1, i64::MIN);
                w.bool(3, true);
            });
            w.i32(7, 70_000);
        });
        let mut seen = Vec::new();
        let mut bytes = writer.out.as_slice();
        read_numbers(&mut bytes, &mut |path, number| seen.push((path.to_vec(), number))).expect("own bytes");
        assert!(bytes.is_empty());
        assert_eq!(seen, [(vec![1], -3), (vec![5, 1], i64::MIN), (vec![5, 3], 1), (vec![7], 70_000)]);
    }

    #[test]
    fn cut_off_headers_are_errors() {
        let mut writer = Writer::default();
        writer.element(|w| w.structure(5, |w| w.i64(1, 1 << 40)));
        for end in 0..writer.out.len() {
            assert!(read_numbers(&mut &writer.out[..end], &mut |_, _| {}).is_err(), "{end}");
        }
    }
}
