//! Objects, arrays and scalars of proto3 JSON: what every message is made of.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::otlp::batch::{Batch, Fault, Rows};

/// Takes the fields of an object as they come.
pub(super) trait Fields<'de> {
    /// Takes the value of one field from `map`; must take exactly one.
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object or null; gives whether it was an object.
pub(super) struct Object<'t, T>(pub(super) &'t mut T);

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Object<'_, T> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Object<'_, T> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(name) = map.next_key_seed(Text)? {
            self.0.field(name.as_deref().unwrap_or_default(), &mut map)?;
        }
        Ok(true)
    }
}

/// Takes the items of an array one by one.
pub(super) trait Items<'de> {
    /// Takes the next item from `list`; false at the end.
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error>;
}

/// Reads an array or null.
pub(super) struct List<'t, T>(pub(super) &'t mut T);

impl<'de, T: Items<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Items<'de>> Visitor<'de> for List<'_, T> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.0.item(&mut list)? {}
        Ok(())
    }
}

/// A scalar as it came; strings are borrowed unless they have escapes.
pub(super) enum Scalar<'de> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    String(Cow<'de, str>),
}

impl<'de> Scalar<'de> {
    /// The value of the field that `map` is at.
    pub(super) fn of<A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value_seed(AnyScalar)
    }

    /// The whole number that it is, also as a string, 0 for null.
    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Null => Some(0),
            Self::Unsigned(number) => Some(i128::from(*number)),
            Self::Signed(number) => Some(i128::from(*number)),
            // Up to 2^64 every whole number that a double holds is exact.
            Self::Float(number) if number.fract() == 0.0 && number.abs() <= 2f64.powi(64) => {
                Some(*number as i128)
            }
            Self::String(digits) => digits.parse().ok(),
            Self::Float(_) | Self::Bool(_) => None,
        }
    }

    pub(super) fn double(&self) -> Option<f64> {
        match self {
            Self::Null => Some(0.0),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Signed(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::String(text) => match text.as_ref() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                // Rust would also take its own names of what is not finite.
                digits => digits.parse().ok().filter(|number: &f64| number.is_finite()),
            },
            Self::Bool(_) => None,
        }
    }
}

/// Reads a [`Scalar`].
pub(super) struct AnyScalar;

impl<'de> DeserializeSeed<'de> for AnyScalar {
    type Value = Scalar<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, true, false or null")
    }
    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Null)
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool(truth))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Unsigned(number))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Signed(number))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Float(number))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::String(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::String(Cow::Owned(text.to_owned())))
    }
}

/// Reads a string or null.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Cow<'de, str>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match AnyScalar.deserialize(deserializer)? {
            Scalar::String(text) => Ok(Some(text)),
            Scalar::Null => Ok(None),
            _ => Err(D::Error::custom("expected a string")),
        }
    }
}

/// A string, empty for null.
pub(super) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    Ok(map.next_value_seed(Text)?.unwrap_or_default())
}

/// A string that is kept, empty for null.
pub(super) fn owned_text<'de, A, C>(
    batch: &mut Batch<'_, C>,
    map: &mut A,
    what: &'static str,
) -> Result<String, A::Error>
where
    A: MapAccess<'de>,
    C: Rows,
{
    let text = text(map)?;
    Ok(batch.text(text.as_bytes(), what).to_owned())
}

/// A whole number in the range of `N`, 0 for null, 0 with a fault for anything else.
pub(super) fn number<'de, A, N, C>(
    batch: &mut Batch<'_, C>,
    map: &mut A,
    what: &'static str,
) -> Result<N, A::Error>
where
    A: MapAccess<'de>,
    C: Rows,
    N: TryFrom<i128> + Default,
{
    let number = Scalar::of(map)?.integer().and_then(|number| N::try_from(number).ok());
    Ok(number.unwrap_or_else(|| {
        batch.fail(Fault::NotNumber(what));
        N::default()
    }))
}

/// An enum as a number or by name, the position in `names` being the number.
pub(super) fn enum_number<'de, A, C>(
    batch: &mut Batch<'_, C>,
    map: &mut A,
    names: &[&str],
    what: &'static str,
) -> Result<i32, A::Error>
where
    A: MapAccess<'de>,
    C: Rows,
{
    let scalar = Scalar::of(map)?;
    let by_name = match &scalar {
        Scalar::String(name) => names.iter().position(|candidate| candidate == name).map(|at| at as i32),
        _ => None,
    };
    let number = by_name.or_else(|| scalar.integer().and_then(|number| i32::try_from(number).ok()));
    Ok(number.unwrap_or_else(|| {
        batch.fail(Fault::NotNumber(what));
        0
    }))
}

/// An id of up to 16 bytes.
#[derive(Default)]
pub(super) struct Id {
    bytes: [u8; 16],
    length: usize,
}

impl Id {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The id in hex digits; a wrong one is a fault. `N` is the length that it should have.
    pub(super) fn of<'de, A, C, const N: usize>(
        batch: &mut Batch<'_, C>,
        map: &mut A,
        what: &'static str,
    ) -> Result<Self, A::Error>
    where
        A: MapAccess<'de>,
        C: Rows,
    {
        Ok(Self::parse::<N>(&text(map)?, what).unwrap_or_else(|fault| {
            batch.fail(fault);
            Self::default()
        }))
    }

    /// The id in hex digits; a wrong one is none.
    pub(super) fn or_none<'de, A: MapAccess<'de>, const N: usize>(map: &mut A) -> Result<Self, A::Error> {
        Ok(Self::parse::<N>(&text(map)?, "id").unwrap_or_default())
    }

    fn parse<const N: usize>(digits: &str, what: &'static str) -> Result<Self, Fault> {
        let digits = digits.as_bytes();
        if digits.len() % 2 == 1 || digits.len() > 2 * N {
            return Err(Fault::HexLength { what, digits: digits.len(), expected: 2 * N });
        }
        let mut id = Self::default();
        for pair in digits.chunks_exact(2) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(Fault::NotHex(what));
            };
            id.bytes[id.length] = (high << 4 | low) as u8;
            id.length += 1;
        }
        Ok(id)
    }
}

/// Passes over the value of a field that is of no interest.
pub(super) fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}
