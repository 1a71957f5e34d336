//! Numeric: decimal numbers without loss, within Postgres's own limits, with its rules for how many
//! digits a result shows. Values that fit 64 bits are held in place.

use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Digits that Postgres takes before and after the point.
const WHOLE_DIGITS_MAX: i64 = 131_072;
const SCALE_MAX: i64 = 16_383;
/// Bounds of the scale that a division or a rounding chooses.
const DIV_SCALE_MAX: i64 = 1_000;
const ROUND_SCALE_MAX: i64 = 2_000;
/// Significant digits that a division gives at least.
const DIV_DIGITS_MIN: i64 = 16;

/// A decimal number, infinite, or not a number.
#[derive(Clone, Debug)]
pub(crate) enum Num {
    NegInfinity,
    Finite(Dec),
    Infinity,
    NaN,
}

/// `coefficient / 10^scale`.
#[derive(Clone, Debug)]
pub(crate) struct Dec {
    coefficient: Coefficient,
    /// Digits after the point that are shown.
    scale: u16,
}

/// `Small` whenever it fits.
#[derive(Clone, Debug)]
enum Coefficient {
    Small(i64),
    Big(Arc<BigInt>),
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumError {
    Overflow,
    DivisionByZero,
}

impl Coefficient {
    fn big(&self) -> BigInt {
        match self {
            Coefficient::Small(value) => BigInt::from(*value),
            Coefficient::Big(value) => BigInt::clone(value),
        }
    }

    fn sign(&self) -> i8 {
        match self {
            Coefficient::Small(value) => value.signum() as i8,
            Coefficient::Big(value) => match value.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }
}

fn power(exponent: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).unwrap_or(0))
}

/// The quotient, rounded half away from zero.
fn divide_rounded(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let negative = (dividend.sign() == Sign::Minus) != (divisor.sign() == Sign::Minus);
    let (dividend, divisor) = (dividend.magnitude(), divisor.magnitude());
    let quotient = (dividend * 2_u8 + divisor) / (divisor * 2_u8);
    BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, quotient)
}

/// The number of decimal digits of `value`, leading zeros not counted.
fn digits(value: &BigInt) -> String {
    value.magnitude().to_string()
}

impl Dec {
    /// Checks Postgres's limits.
    fn new(coefficient: BigInt, scale: i64) -> Result<Dec, NumError> {
        if let Ok(small) = i64::try_from(&coefficient) {
            return Dec::small(small, scale);
        }
        // A decimal digit has more than three bits: no need to print what is far from the limit.
        if coefficient.bits() / 3 > WHOLE_DIGITS_MAX as u64 {
            let whole = digits(&coefficient).len() as i64 - scale;
            if whole > WHOLE_DIGITS_MAX {
                return Err(NumError::Overflow);
            }
        }
        let scale = scale_of(scale)?;
        Ok(Dec { coefficient: Coefficient::Big(Arc::new(coefficient)), scale })
    }

    fn small(coefficient: i64, scale: i64) -> Result<Dec, NumError> {
        Ok(Dec { coefficient: Coefficient::Small(coefficient), scale: scale_of(scale)? })
    }

    fn scale(&self) -> i64 {
        i64::from(self.scale)
    }

    /// The coefficient at a scale that is not smaller than its own.
    fn at(&self, scale: i64) -> BigInt {
        self.coefficient.big() * power(scale - self.scale())
    }

    /// Rounded to `scale` digits after the point, which may be negative.
    fn rounded(&self, scale: i64) -> BigInt {
        if scale >= self.scale() {
            return self.at(scale);
        }
        divide_rounded(&self.coefficient.big(), &power(self.scale() - scale))
    }

    /// The number without the zeros at its end, for hashing.
    fn normal(&self) -> (BigInt, u16) {
        let mut value = self.coefficient.big();
        let mut scale = self.scale;
        if value.sign() == Sign::NoSign {
            return (value, 0);
        }
        while scale > 0 {
            let rest: BigInt = &value % 10;
            if rest.sign() != Sign::NoSign {
                break;
            }
            value /= 10;
            scale -= 1;
        }
        (value, scale)
    }

    /// The weight of the first digit to base 10,000 that is not zero, and that digit.
    fn first_digit(&self) -> (i64, i64) {
        let digits = digits(&self.coefficient.big());
        if digits == "0" {
            return (0, 0);
        }
        let exponent = digits.len() as i64 - 1 - self.scale();
        let weight = exponent.div_euclid(4);
        let count = (exponent - 4 * weight + 1) as usize;
        let first: String = digits.chars().chain("0000".chars()).take(count).collect();
        (weight, first.parse().unwrap_or(0))
    }
}

fn scale_of(scale: i64) -> Result<u16, NumError> {
    if !(0..=SCALE_MAX).contains(&scale) {
        return Err(NumError::Overflow);
    }
    u16::try_from(scale).map_err(|_| NumError::Overflow)
}

impl PartialEq for Dec {
    fn eq(&self, other: &Dec) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Dec {}

impl PartialOrd for Dec {
    fn partial_cmp(&self, other: &Dec) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The widest difference of scales at which small coefficients are compared in 128 bits.
const SMALL_SHIFT_MAX: u16 = 18;

impl Ord for Dec {
    fn cmp(&self, other: &Dec) -> Ordering {
        let by_sign = self.coefficient.sign().cmp(&other.coefficient.sign());
        if by_sign != Ordering::Equal {
            return by_sign;
        }
        if let (Coefficient::Small(a), Coefficient::Small(b)) =
            (&self.coefficient, &other.coefficient)
            && self.scale.abs_diff(other.scale) <= SMALL_SHIFT_MAX
        {
            let shift = |value: i64, by: u16| i128::from(value) * 10_i128.pow(u32::from(by));
            let (a_shift, b_shift) =
                (other.scale.saturating_sub(self.scale), self.scale.saturating_sub(other.scale));
            return shift(*a, a_shift).cmp(&shift(*b, b_shift));
        }
        let scale = self.scale().max(other.scale());
        self.at(scale).cmp(&other.at(scale))
    }
}

impl Num {
    fn rank(&self) -> u8 {
        match self {
            Num::NegInfinity => 0,
            Num::Finite(_) => 1,
            Num::Infinity => 2,
            Num::NaN => 3,
        }
    }

    fn sign(&self) -> i8 {
        match self {
            Num::NegInfinity => -1,
            Num::Finite(value) => value.coefficient.sign(),
            Num::Infinity => 1,
            Num::NaN => 0,
        }
    }

    fn infinity(sign: i8) -> Num {
        if sign < 0 { Num::NegInfinity } else { Num::Infinity }
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Num) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Num) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Num {
    fn cmp(&self, other: &Num) -> Ordering {
        match (self, other) {
            (Num::Finite(a), Num::Finite(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Hash for Num {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        if let Num::Finite(value) = self {
            match &value.coefficient {
                Coefficient::Small(small) => {
                    let (mut small, mut scale) = (*small, value.scale);
                    while scale > 0 && small % 10 == 0 {
                        small /= 10;
                        scale -= 1;
                    }
                    (small, scale).hash(state);
                }
                Coefficient::Big(_) => {
                    let (value, scale) = value.normal();
                    match i64::try_from(&value) {
                        Ok(small) => (small, scale).hash(state),
                        Err(_) => (value, scale).hash(state),
                    }
                }
            }
        }
    }
}

impl From<i64> for Num {
    fn from(value: i64) -> Num {
        Num::Finite(Dec { coefficient: Coefficient::Small(value), scale: 0 })
    }
}

mod arith;
mod convert;
mod order;

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self {
            Num::NegInfinity => return f.write_str("-Infinity"),
            Num::Infinity => return f.write_str("Infinity"),
            Num::NaN => return f.write_str("NaN"),
            Num::Finite(value) => value,
        };
        let digits = digits(&value.coefficient.big());
        let scale = usize::from(value.scale);
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if value.coefficient.sign() < 0 { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}
