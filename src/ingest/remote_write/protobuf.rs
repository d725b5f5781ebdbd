//! The wire format of protobuf, walked where it stands: no copies, no recursion, no allocation.
//!
//! A [`Message`] is a stretch of the body that is known to lie within it. Each step either consumes
//! bytes or ends, so that a walk is never longer than its bytes; every error knows its byte.

use super::{Error, Fault};

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    rest: &'a [u8],
    /// Where the message ends, counted from the beginning of the body.
    end: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    value: Value<'a>,
    /// Where it begins in the body.
    pub(crate) at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Message<'a>),
    Fixed32,
}

impl<'a> Message<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            end: body.len(),
        }
    }

    /// Where the rest begins in the body.
    pub(crate) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The next field; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
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
    pub(crate) fn next_packed(&mut self) -> Result<Option<u64>, Error> {
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
    pub(crate) fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.rest).map_err(|error| {
            let at = self.at() + error.valid_up_to();
            Error::at(at, Fault::Utf8)
        })
    }

    /// All of it, when it is a double in field 1 and a number in field 2, in this order.
    #[inline]
    pub(crate) fn double_and_number(mut self) -> Option<(f64, u64)> {
        let (&[first, value @ .., second], rest) = self.rest.split_first_chunk::<10>()?;
        if first != (1 << 3 | 1) || second != 2 << 3 {
            return None;
        }
        self.rest = rest;
        let number = self.varint().ok()?;
        let value = f64::from_bits(u64::from_le_bytes(value));
        self.rest.is_empty().then_some((value, number))
    }

    /// The short fields of bytes with this number at the beginning as they stand there, and what follows
    /// them.
    #[inline]
    pub(crate) fn leading(self, number: u8) -> (&'a [u8], Self) {
        let tag = number << 3 | 2;
        let mut rest = self.rest;
        while let [first, length @ 0..0x80, more @ ..] = rest
            && *first == tag
            && let Some((_, after)) = more.split_at_checked(usize::from(*length))
        {
            rest = after;
        }
        let (walked, rest) = self.rest.split_at(self.rest.len() - rest.len());
        (walked, Self { rest, ..self })
    }

    /// Whether it has fields with this number and no others.
    #[inline]
    pub(crate) fn has_only(mut self, number: u32) -> Result<bool, Error> {
        let mut has_only = false;
        while let Some(field) = self.next()? {
            has_only = field.number == number;
            if !has_only {
                break;
            }
        }
        Ok(has_only)
    }

    /// Reads the pairs of texts in the fields with this number at the beginning, and answers what
    /// follows them.
    ///
    /// Takes the form in which senders write them: texts below 128 bytes, in the fields 1 and 2, both
    /// there and in this order; stops before the first pair in another form, and where so many have
    /// been read. This is most of what a request consists of. So all pairs are checked at once to be
    /// UTF-8, the bytes between the texts included: below 128 those are UTF-8 themselves, and pieces
    /// of a text between whole characters are texts.
    pub(crate) fn leading_pairs(
        self,
        number: u8,
        pairs_max: usize,
        pairs: &mut Vec<(&'a str, &'a str)>,
    ) -> Self {
        let (walked, _) = self.leading(number);
        let mut text = std::str::from_utf8(walked).unwrap_or_default();
        let mut end = self.at();
        while pairs.len() < pairs_max
            && let Some((_, length)) = short_field(text)
            && let Some((pair, after)) = text.split_at_checked(2 + length)
            && let Some(pair) = short_pair(pair)
        {
            pairs.push(pair);
            end += 2 + length;
            text = after;
        }
        let (_, rest) = self.rest.split_at(end - self.at());
        Self { rest, ..self }
    }
}

/// The tag and the length of a field of bytes whose length fits into one byte.
#[inline]
fn short_field(text: &str) -> Option<(u8, usize)> {
    match text.as_bytes() {
        [tag, length @ 0..0x80, ..] => Some((*tag, usize::from(*length))),
        _ => None,
    }
}

/// The texts in the fields 1 and 2 of a message that stands behind its tag and length.
#[inline]
fn short_pair(field: &str) -> Option<(&str, &str)> {
    let (_, message) = field.split_at_checked(2)?;
    let (_, length) = short_field(message).filter(|(tag, _)| *tag == (1 << 3 | 2))?;
    let (_, message) = message.split_at_checked(2)?;
    let (name, message) = message.split_at_checked(length)?;
    let (_, length) = short_field(message).filter(|(tag, _)| *tag == (2 << 3 | 2))?;
    let (_, value) = message.split_at_checked(2)?;
    (value.len() == length).then_some((name, value))
}

impl<'a> Field<'a> {
    #[inline]
    pub(crate) fn message(self) -> Result<Message<'a>, Error> {
        match self.value {
            Value::Bytes(message) => Ok(message),
            _ => Err(self.unfit()),
        }
    }

    /// A packed list, or one number of it.
    pub(crate) fn is_packed(self) -> bool {
        matches!(self.value, Value::Bytes(_))
    }

    #[inline]
    pub(crate) fn number(self) -> Result<u64, Error> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.unfit()),
        }
    }

    #[inline]
    pub(crate) fn double(self) -> Result<f64, Error> {
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

    /// The pairs in the fields 1 at the beginning, and how many bytes they take.
    fn pairs(body: &[u8]) -> (Vec<(&str, &str)>, usize) {
        let mut pairs = Vec::new();
        let rest = Message::new(body).leading_pairs(1, 9, &mut pairs);
        (pairs, rest.at())
    }

    #[test]
    fn pairs_are_read_as_long_as_they_have_the_usual_form() {
        let usual = b"\x0a\x08\x0a\x01a\x12\x03b\xc3\xa9";
        assert_eq!(pairs(usual), (vec![("a", "b\u{e9}")], 10));
        let two = [usual.as_slice(), usual, b"\x12\x00"].concat();
        assert_eq!(pairs(&two).1, 20);
        let ten = usual.repeat(10);
        assert_eq!(pairs(&ten).1, 90);
        for unusual in [
            b"\x12\x06\x0a\x01a\x12\x01b".as_slice(),
            b"\x0a\x06\x12\x01a\x0a\x01b",
            b"\x0a\x03\x0a\x01a",
            b"\x0a\x06\x0a\x01a\x12\x02b",
            b"\x0a\x06\x0a\x03a\x12\x01b",
            b"\x0a\x07\x0a\x01a\x12\x01b\x00",
            b"\x0a\x06\x0a\x01a\x12\x01\xff",
            b"\x0a\x07\x0a\x01a\x12\x01b",
            b"\x0a",
            b"",
        ] {
            assert_eq!(pairs(unusual), (vec![], 0), "{unusual:?}");
            let later = [usual.as_slice(), unusual].concat();
            assert!(pairs(&later).1 <= 10, "{unusual:?}");
        }
    }

    #[test]
    fn a_double_and_a_number_are_read_in_the_usual_form_only() {
        let read = |message: &[u8]| Message::new(message).double_and_number();
        let usual = [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x85, 0x01];
        assert_eq!(read(&usual), Some((1.0, 133)));
        for end in 0..usual.len() {
            assert_eq!(read(usual.split_at(end).0), None);
        }
        let more = [usual.as_slice(), &[0x18, 1]].concat();
        assert_eq!(read(&more), None);
        assert_eq!(read(&[0x10, 1]), None);
    }

    #[test]
    fn a_text_ends_between_characters() {
        // Two bytes of a text's end are one character, of which the length gives half to the name.
        let halved = b"\x0a\x07\x0a\x01\xc3\xa9\x12\x00\x00";
        assert_eq!(pairs(halved), (vec![], 0));
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
