//! Columns of integers: constant, or residuals from a frame of reference, from a least step, or
//! zigzag steps, divided by what they have in common, and packed.
//!
//! All differences wrap, so that every `i64` column round-trips.

use super::super::bytes::{Bytes, Malformed, put_varint, put_zigzag, unzigzag, zigzag};
use super::pack::{Plan, pack, unpack};

pub(super) const CONSTANT: u8 = 0;
pub(super) const FRAME: u8 = 1;
pub(super) const STEP: u8 = 2;
pub(super) const ZIGZAG: u8 = 3;

pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let (&first, rest) = values.split_first().expect("a chunk is never empty");
    if rest.iter().all(|&value| value == first) {
        out.push(CONSTANT);
        put_zigzag(out, first);
        return;
    }
    let least = *values.iter().min().expect("a chunk is never empty");
    let steps = || values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let step_least = steps().min().expect("there are two values");

    let frame = Residuals::of(values.iter().map(|value| value.wrapping_sub(least) as u64));
    let step = Residuals::of(steps().map(|step| step.wrapping_sub(step_least) as u64));
    let zigzags = Residuals::of(steps().map(zigzag));
    if frame.bits() <= step.bits() && frame.bits() <= zigzags.bits() {
        out.push(FRAME);
        put_zigzag(out, least);
        frame.put(out);
    } else if step.bits() <= zigzags.bits() {
        out.push(STEP);
        put_zigzag(out, first);
        put_zigzag(out, step_least);
        step.put(out);
    } else {
        out.push(ZIGZAG);
        put_zigzag(out, first);
        zigzags.put(out);
    }
}

/// Appends the `count` integers to `out`.
pub(super) fn decode(
    bytes: &mut Bytes<'_>,
    count: usize,
    residuals: &mut Vec<u64>,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let mode = bytes.u8()?;
    let first = bytes.zigzag()?;
    match mode {
        CONSTANT => out.resize(out.len() + count, first),
        FRAME => {
            let divisor = bytes.varint()?;
            unpack(bytes, count, residuals)?;
            out.extend(
                residuals
                    .iter()
                    .map(|residual| first.wrapping_add(residual.wrapping_mul(divisor) as i64)),
            );
        }
        STEP | ZIGZAG => {
            let step_least = if mode == STEP { bytes.zigzag()? } else { 0 };
            let divisor = bytes.varint()?;
            unpack(bytes, count.saturating_sub(1), residuals)?;
            let mut value = first;
            out.push(value);
            for residual in residuals {
                let residual = residual.wrapping_mul(divisor);
                let step = match mode {
                    STEP => step_least.wrapping_add(residual as i64),
                    _ => unzigzag(residual),
                };
                value = value.wrapping_add(step);
                out.push(value);
            }
        }
        _ => return Err(Malformed("an integer column is of an unknown mode")),
    }
    Ok(())
}

/// Residuals divided by their greatest common divisor.
struct Residuals {
    values: Vec<u64>,
    divisor: u64,
    plan: Plan,
}

impl Residuals {
    fn of(residuals: impl Iterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = residuals.collect();
        let mut divisor = 0;
        for &value in &values {
            if divisor == 1 {
                break;
            }
            divisor = greatest_common_divisor(divisor, value);
        }
        // Zero when there are only zeros.
        let divisor = divisor.max(1);
        if divisor > 1 {
            for value in &mut values {
                *value /= divisor;
            }
        }
        let plan = Plan::of(&values);
        Self {
            values,
            divisor,
            plan,
        }
    }

    fn bits(&self) -> u64 {
        self.plan.bits()
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.divisor);
        pack(&self.values, self.plan, out);
    }
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}
