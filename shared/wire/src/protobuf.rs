//! The protobuf wire format, read from a borrowed body without building anything.
//!
//! A [`Reader`] walks one message; [`Reader::message`] gives a reader of a message inside.
//! Fields of an unknown number, or of another wire type than expected, are skipped, as protobuf demands.
//! Source: protobuf.dev, "Encoding".

use crate::error::Error;

/// What [`Reader::tag`] gives at the end of the message; no field has this tag.
pub(crate) const END: u32 = 0;

/// The deepest nesting of groups (a deprecated kind of field) that is skipped.
const MAX_GROUP_DEPTH: u32 = 64;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const FIXED32: u32 = 5;

/// The tag of a varint field.
pub(crate) const fn varint(field: u32) -> u32 {
    field << 3 | VARINT
}

/// The tag of a field of eight bytes.
pub(crate) const fn fixed64(field: u32) -> u32 {
    field << 3 | FIXED64
}

/// The tag of a field of four bytes.
pub(crate) const fn fixed32(field: u32) -> u32 {
    field << 3 | FIXED32
}

/// The tag of a string, bytes or message field.
pub(crate) const fn length(field: u32) -> u32 {
    field << 3 | LENGTH
}

/// Why the bytes are not protobuf, and where: small, because every read may return it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The address of the byte, which tells the place in the body once that is at hand.
    address: usize,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Truncated,
    Varint,
    Tag,
    WireType,
    Group,
}

impl Broken {
    /// The error, with the place in `body`, which is what was read.
    pub(crate) fn in_body(self, body: &[u8]) -> Error {
        let what = match self.what {
            What::Truncated => "field ends after its message",
            What::Varint => "varint longer than 10 bytes",
            What::Tag => "invalid tag",
            What::WireType => "unknown wire type",
            What::Group => "unbalanced or too deeply nested groups",
        };
        Error::Malformed { offset: self.address - body.as_ptr().addr(), what }
    }
}

/// Reads the fields of one message.
///
/// The reads of one byte are inlined, all else is not: almost every tag and length has one byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// What was not read yet.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a message, or a whole body.
    #[inline]
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What was not read yet.
    #[inline]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[cold]
    fn broken(&self, what: What) -> Broken {
        Broken { address: self.rest.as_ptr().addr(), what }
    }

    /// The tag of the next field, [`END`] at the end of the message.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<u32, Broken> {
        match *self.rest {
            [] => Ok(END),
            [tag @ 8..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u32::from(tag))
            }
            _ => self.long_tag(),
        }
    }

    #[inline(never)]
    fn long_tag(&mut self) -> Result<u32, Broken> {
        let start = *self;
        match self.long_varint()? {
            tag @ 8..=0xffff_ffff => Ok(tag as u32),
            _ => Err(start.broken(What::Tag)),
        }
    }

    /// A varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Broken> {
        match *self.rest {
            [byte @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Broken> {
        if let [first, second @ ..0x80, ref rest @ ..] = *self.rest
            && first >= 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first & 0x7f) | u64::from(second) << 7);
        }
        let mut value = 0;
        for (place, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if place == 9 && byte > 1 {
                    return Err(self.broken(What::Varint));
                }
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(self.broken(if self.rest.len() < 10 { What::Truncated } else { What::Varint }))
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Broken> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.broken(What::Truncated));
        };
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Four bytes, little-endian.
    #[inline]
    pub(crate) fn fixed32(&mut self) -> Result<u32, Broken> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.broken(What::Truncated));
        };
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// The bytes of a string, bytes or message field.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.varint()?;
        let Some((bytes, rest)) = self.rest.split_at_checked(length as usize) else {
            return Err(self.broken(What::Truncated));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// A reader of the message in a field.
    #[inline]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, Broken> {
        self.bytes().map(Self::new)
    }

    /// Passes over the value of a field that is of no interest.
    pub(crate) fn skip(&mut self, tag: u32) -> Result<(), Broken> {
        self.skip_nested(tag, 0)
    }

    fn skip_nested(&mut self, tag: u32, depth: u32) -> Result<(), Broken> {
        match tag & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            LENGTH => self.bytes().map(drop),
            FIXED32 => self.fixed32().map(drop),
            START_GROUP if depth < MAX_GROUP_DEPTH => loop {
                let inner = self.tag()?;
                if inner & 7 == END_GROUP && inner >> 3 == tag >> 3 {
                    return Ok(());
                }
                if inner == END {
                    return Err(self.broken(What::Truncated));
                }
                self.skip_nested(inner, depth + 1)?;
            },
            START_GROUP | END_GROUP => Err(self.broken(What::Group)),
            _ => Err(self.broken(What::WireType)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> Option<What> {
        let mut reader = Reader::new(bytes);
        loop {
            match reader
                .tag()
                .and_then(|tag| if tag == END { Ok(END) } else { reader.skip(tag).map(|()| tag) })
            {
                Ok(END) => return None,
                Ok(_) => {}
                Err(broken) => return Some(broken.what),
            }
        }
    }

    #[test]
    fn varints_of_every_length_are_read() {
        for value in (0..64).flat_map(|shift| [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift]) {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(value, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.varint(), reader.tag()), (Ok(value), Ok(END)));
            bytes.pop();
            assert_eq!(Reader::new(&bytes).varint().map_err(|broken| broken.what), Err(What::Truncated));
        }
    }

    #[test]
    fn unknown_fields_of_every_wire_type_are_skipped() {
        let check = |bytes: &[u8], expect: Option<What>| assert_eq!(what(bytes), expect, "{bytes:x?}");
        check(&[], None);
        check(&[0x08, 0xff, 0x01], None);
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8], None);
        check(&[0x0a, 2, 1, 2], None);
        check(&[0x0d, 1, 2, 3, 4], None);
        // Group 1 holding a varint and group 2.
        check(&[0x0b, 0x08, 1, 0x13, 0x14, 0x0c], None);
        check(&[0x0b, 0x08, 1], Some(What::Truncated));
        check(&[0x0b, 0x14], Some(What::Group));
        check(&[0x0c], Some(What::Group));
        check(&vec![0x0b; 100_000], Some(What::Group));
        check(&[0x0e], Some(What::WireType));
        check(&[0x0f], Some(What::WireType));
        check(&[0x00, 0x00], Some(What::Tag));
        check(&[0x80, 0x80, 0x80, 0x80, 0x10], Some(What::Tag));
        check(&[0x0a, 3, 1, 2], Some(What::Truncated));
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(What::Truncated));
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7], Some(What::Truncated));
        check(&[0x0d, 1], Some(What::Truncated));
        check(&[0x08], Some(What::Truncated));
        check(&[0x08, 0x80], Some(What::Truncated));
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Some(What::Varint));
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(What::Varint));
    }

    #[test]
    fn an_error_says_where() {
        let body = [0x0a, 3, 0x12, 9, 0];
        let mut outer = Reader::new(&body);
        assert_eq!(outer.tag(), Ok(length(1)));
        let mut inner = outer.message().expect("three bytes");
        assert_eq!(inner.tag(), Ok(length(2)));
        let error = inner.message().expect_err("nine bytes in one").in_body(&body);
        assert_eq!(error.to_string(), "malformed protobuf at byte 4: field ends after its message");
    }
}
