//! Floats in Go's forms: `%e`, `%f`, `%g` and `%x`, with a precision or with the fewest digits that mean
//! the same float.

/// Go's `strconv.FormatFloat(value, 'e', -1, 64)`, which the value of an alert has in the API.
pub fn scientific(value: f64) -> String {
    format(value, 'e', None)
}

/// Go's `strconv.FormatFloat`; verbs are `e`, `f`, `g` and `x`. Not finite ones are `NaN`, `+Inf`, `-Inf`.
pub(super) fn format(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let magnitude = value.abs();
    let text = match (verb, precision) {
        ('e', Some(precision)) => Decimal::rounded(magnitude, precision).with_exponent(precision),
        ('e', None) => {
            let decimal = Decimal::shortest(magnitude);
            decimal.with_exponent(decimal.digits.len().saturating_sub(1))
        }
        ('f', Some(precision)) => format!("{magnitude:.precision$}"),
        ('f', None) => {
            let decimal = Decimal::shortest(magnitude);
            decimal.plain()
        }
        ('x', precision) => hexadecimal(magnitude, precision),
        (_, precision) => general(magnitude, precision),
    };
    format!("{sign}{text}")
}

/// `%g`: an exponent for the very large and the very small only.
fn general(magnitude: f64, precision: Option<usize>) -> String {
    /// Digits before the point up to which the shortest form has no exponent.
    const SHORTEST_DIGITS: i64 = 6;
    let (decimal, exponent_min) = match precision {
        None => (Decimal::shortest(magnitude), SHORTEST_DIGITS),
        Some(precision) => {
            let digits = precision.max(1);
            let decimal = Decimal::rounded(magnitude, digits - 1);
            let found = decimal.digits.len();
            let is_whole = found as i64 >= decimal.point;
            let least = if digits > found && is_whole {
                found
            } else {
                digits
            };
            (decimal, least as i64)
        }
    };
    let exponent = decimal.point - 1;
    if exponent < -4 || exponent >= exponent_min {
        decimal.with_exponent(decimal.digits.len().saturating_sub(1))
    } else {
        decimal.plain()
    }
}

/// The digits of a float without zeros at either end, and where the point stands among them.
struct Decimal {
    /// ASCII; none for zero.
    digits: Vec<u8>,
    /// How many digits are before the point; negative for zeros after it.
    point: i64,
}

impl Decimal {
    fn shortest(magnitude: f64) -> Self {
        Self::read(zmij::Buffer::new().format_finite(magnitude))
    }

    /// With so many digits after the first.
    fn rounded(magnitude: f64, decimals: usize) -> Self {
        Self::read(&format!("{magnitude:.decimals$e}"))
    }

    /// Reads `12.5` or `1.25e1`.
    fn read(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse().unwrap_or(0);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = all.iter().take_while(|digit| **digit == b'0').count();
        let mut digits = all.get(zeros..).unwrap_or_default().to_vec();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let point = if digits.is_empty() {
            0
        } else {
            whole.len() as i64 + exponent - zeros as i64
        };
        Self { digits, point }
    }

    fn digit(&self, at: usize) -> char {
        self.digits.get(at).map_or('0', |digit| char::from(*digit))
    }

    fn with_exponent(&self, decimals: usize) -> String {
        let mut text = String::from(self.digit(0));
        if decimals > 0 {
            text.push('.');
            text.extend((1..=decimals).map(|at| self.digit(at)));
        }
        let exponent = if self.digits.is_empty() {
            0
        } else {
            self.point - 1
        };
        let sign = if exponent < 0 { '-' } else { '+' };
        text.push_str(&format!("e{sign}{:02}", exponent.abs()));
        text
    }

    fn plain(&self) -> String {
        let whole = usize::try_from(self.point).unwrap_or(0);
        let mut text: String = (0..whole).map(|at| self.digit(at)).collect();
        if text.is_empty() {
            text.push('0');
        }
        if self.digits.len() > whole {
            text.push('.');
            let zeros = usize::try_from(-self.point).unwrap_or(0);
            text.extend(std::iter::repeat_n('0', zeros));
            text.extend((whole..self.digits.len()).map(|at| self.digit(at)));
        }
        text
    }
}

/// `%x`: `0x1.8p+01` is three.
fn hexadecimal(magnitude: f64, precision: Option<usize>) -> String {
    const FRACTION_BITS: u32 = 52;
    if magnitude == 0.0 {
        let zeros = "0".repeat(precision.unwrap_or(0));
        let point = if zeros.is_empty() { "" } else { "." };
        return format!("0x0{point}{zeros}p+00");
    }
    let bits = magnitude.to_bits();
    let biased = (bits >> FRACTION_BITS) as i64;
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let (mut mantissa, mut exponent) = if biased == 0 {
        let shift = fraction.leading_zeros() - (63 - FRACTION_BITS);
        (fraction << shift, -1022 - i64::from(shift))
    } else {
        (fraction | (1 << FRACTION_BITS), biased - 1023)
    };
    let mut digits = 13;
    if let Some(precision) = precision.filter(|precision| *precision < 13) {
        digits = precision;
        let cut = 4 * (13 - precision as u32);
        let (half, rest) = (1 << (cut - 1), mantissa & ((1 << cut) - 1));
        mantissa >>= cut;
        // To the nearest, a tie to the even one.
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        mantissa <<= cut;
        if mantissa >> (FRACTION_BITS + 1) != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let fraction = format!("{:013x}", mantissa & ((1 << FRACTION_BITS) - 1));
    let fraction = match precision {
        None => fraction.trim_end_matches('0').to_owned(),
        Some(precision) => {
            let kept: String = fraction.chars().take(digits).collect();
            format!("{kept:0<precision$}")
        }
    };
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("0x1{point}{fraction}p{sign}{:02}", exponent.abs())
}
