//! Writing protobuf: what the answers to a remote read are made of.

use crate::model::Labels;

/// A number as a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    // 0 is what is read where nothing stands.
    if number != 0 {
        put_varint(out, u64::from(field << 3));
        put_varint(out, number);
    }
}

pub(super) fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value.to_bits() != 0 {
        put_varint(out, u64::from(field << 3 | 1));
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Bytes, a text, or a message.
pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Labels as a repeated `prometheus.Label`.
pub(super) fn put_labels(out: &mut Vec<u8>, field: u32, labels: &Labels) {
    let mut pair = Vec::new();
    for label in labels {
        pair.clear();
        put_bytes(&mut pair, 1, label.name.as_bytes());
        put_bytes(&mut pair, 2, label.value.as_bytes());
        put_bytes(out, field, &pair);
    }
}
