//! The wire format of protobuf, walked where it stands: no copies, no recursion, no allocation.
//!
//! A [`Message`] is a stretch of the body that is known to lie within it. Each step either consumes
//! bytes or ends, so that a walk is never longer than its bytes; every error knows its byte.

use super::{Error, Fault};

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    rest: &'a [u8],
    /// Where the message ends, counted from the beginning of the body.
    end: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    value: Value<'a>,
    /// Where it begins in the body.
    pub(super) at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Message<'a>),
    Fixed32,
}

/// A stretch of the body that is UTF-8 as a whole, so that its pieces need no check of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Message<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            end: body.len(),
        }
    }

    /// Where the rest begins in the body.
    pub(super) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Whether the next field is one of bytes with this number, below 16.
    pub(super) fn next_is_bytes_of(&self, number: u8) -> bool {
        self.rest.first() == Some(&(number << 3 | 2))
    }

    /// The next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.at();
        let tag = self.varint()?;
        let Some(number) = u32::try_from(tag >> 3).ok().filter(|number| *number > 0) else {
            return Err(Error::at(at, Fault::FieldNumber));
        };
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => Value::Bytes(self.bytes()?),
            5 => {
                let _: [u8; 4] = self.array()?;
                Value::Fixed32
            }
            kind => return Err(Error::at(at, Fault::WireType { kind: kind as u8 })),
        };
        Ok(Some(Field { number, value, at }))
    }

    /// The next of packed numbers; `None` at the end.
    #[inline]
    pub(super) fn next_packed(&mut self) -> Result<Option<u64>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Error> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Error> {
        let at = self.at();
        let mut value = 0;
        for (place, &byte) in self.rest.iter().enumerate() {
            // The tenth byte has room for the 64th bit only.
            if place == 9 && byte > 1 {
                return Err(Error::at(at, Fault::LongNumber));
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.rest = self.rest.split_at(place + 1).1;
                return Ok(value);
            }
        }
        Err(Error::at(at, Fault::CutOff))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(Error::at(self.at(), Fault::CutOff));
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    fn bytes(&mut self) -> Result<Self, Error> {
        let at = self.at();
        let length = self.varint()?;
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let Some((head, rest)) = split else {
            return Err(Error::at(at, Fault::Length { length }));
        };
        self.rest = rest;
        Ok(Self {
            rest: head,
            end: self.at(),
        })
    }

    /// All of it as text.
    pub(super) fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.rest).map_err(|error| {
            let at = self.at() + error.valid_up_to();
            Error::at(at, Fault::Utf8)
        })
    }

    /// All of it as text, which may lie within a stretch that is known to be text.
    #[inline]
    pub(super) fn text_within(self, stretch: Stretch<'a>) -> Result<&'a str, Error> {
        // What lies before the stretch wraps around and is not found.
        let start = self.at().wrapping_sub(stretch.start);
        let known = stretch.text.get(start..start.wrapping_add(self.rest.len()));
        known.map_or_else(|| self.text(), Ok)
    }

    /// The bytes from here to where `later`, the same message walked further, stands.
    ///
    /// Empty where they are not UTF-8.
    pub(super) fn stretch_to(&self, later: &Self) -> Stretch<'a> {
        let (walked, _) = self.rest.split_at(self.rest.len() - later.rest.len());
        Stretch {
            text: std::str::from_utf8(walked).unwrap_or_default(),
            start: self.at(),
        }
    }
}

impl<'a> Field<'a> {
    #[inline]
    pub(super) fn message(self) -> Result<Message<'a>, Error> {
        match self.value {
            Value::Bytes(message) => Ok(message),
            _ => Err(self.unfit()),
        }
    }

    /// A packed list, or one number of it.
    pub(super) fn is_packed(self) -> bool {
        matches!(self.value, Value::Bytes(_))
    }

    #[inline]
    pub(super) fn number(self) -> Result<u64, Error> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.unfit()),
        }
    }

    #[inline]
    pub(super) fn double(self) -> Result<f64, Error> {
        match self.value {
            // Bit by bit: a NaN says what it is by its payload.
            Value::Fixed64(bytes) => Ok(f64::from_bits(u64::from_le_bytes(bytes))),
            _ => Err(self.unfit()),
        }
    }

    fn unfit(self) -> Error {
        let kind = match self.value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32 => 5,
        };
        Error::at(self.at, Fault::WireType { kind })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(body: &[u8]) -> (usize, Fault) {
        let mut message = Message::new(body);
        loop {
            match message.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{body:?} is a message"),
                Err(Error::Malformed { at, fault, .. }) => return (at, fault),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_does_not_end_where_it_says_is_found_with_its_byte() {
        assert_eq!(fault(&[0x08]), (1, Fault::CutOff));
        assert_eq!(fault(&[0x08, 0x80]), (1, Fault::CutOff));
        assert_eq!(fault(&[0x09, 1, 2, 3]), (1, Fault::CutOff));
        assert_eq!(fault(&[0x0a, 5, b'a']), (1, Fault::Length { length: 5 }));
        // 2^63 as a length.
        let huge = [
            0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
        ];
        assert_eq!(fault(&huge), (1, Fault::Length { length: 1 << 63 }));
    }

    #[test]
    fn numbers_and_kinds_that_do_not_exist_are_found() {
        assert_eq!(fault(&[0x00, 0x01]), (0, Fault::FieldNumber));
        assert_eq!(fault(&[0x0b]), (0, Fault::WireType { kind: 3 }));
        let eleven = [
            0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ];
        assert_eq!(fault(&eleven), (1, Fault::LongNumber));
        let more_than_64_bits = [
            0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
        ];
        assert_eq!(fault(&more_than_64_bits), (1, Fault::LongNumber));
    }

    #[test]
    fn the_largest_number_has_ten_bytes() {
        let body = [
            0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ];
        let field = Message::new(&body).next().unwrap().unwrap();
        assert_eq!(field.number().unwrap(), u64::MAX);
    }

    #[test]
    fn text_is_found_within_a_stretch_or_checked_by_itself() {
        // Two fields of text, the second outside of the stretch, and one that is none.
        let body = [0x0a, 2, 0xc3, 0xa9, 0x0a, 1, b'x', 0x0a, 1, 0xff];
        let start = Message::new(&body);
        let mut later = start;
        let first = later.next().unwrap().unwrap().message().unwrap();
        let stretch = start.stretch_to(&later);
        let second = later.next().unwrap().unwrap().message().unwrap();
        let third = later.next().unwrap().unwrap().message().unwrap();
        assert_eq!(first.text_within(stretch).unwrap(), "\u{e9}");
        assert_eq!(second.text_within(stretch).unwrap(), "x");
        let error = third.text_within(stretch).unwrap_err();
        assert_eq!(error, Error::at(9, Fault::Utf8));
    }

    proptest! {
        #[test]
        fn a_walk_over_arbitrary_bytes_ends(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut message = Message::new(&body);
            let mut fields = 0;
            while let Ok(Some(_)) = message.next() {
                fields += 1;
            }
            prop_assert!(fields <= body.len());
        }
    }
}
