//! Order: numerics by their first digits, in one integer.

use super::{BigInt, Coefficient, Dec, Num, Sign, power};

/// Digits after the point that count: enough for prices.
const SCALE: i64 = 4;
/// No power of ten above this fits 64 bits.
const POWER_MAX: i64 = 18;
/// A decimal digit has at least so many tenths of a bit.
const TENTHS: i64 = 33;

impl Num {
    /// Never falls where numerics rise; the same for what is equal.
    pub(in crate::predicate::value) fn order(&self) -> i64 {
        match self {
            Num::NegInfinity => i64::MIN,
            Num::Infinity | Num::NaN => i64::MAX,
            Num::Finite(value) => value.order(),
        }
    }
}

impl Dec {
    /// The value times 10,000, rounded down, as far as 64 bits hold it.
    fn order(&self) -> i64 {
        let shift = SCALE - self.scale();
        match &self.coefficient {
            Coefficient::Small(value) if shift >= 0 => {
                value.saturating_mul(10_i64.pow(shift.unsigned_abs() as u32))
            }
            Coefficient::Small(value) if -shift <= POWER_MAX => {
                value.div_euclid(10_i64.pow(shift.unsigned_abs() as u32))
            }
            Coefficient::Small(value) => value.signum().min(0),
            Coefficient::Big(value) => {
                let furthest = match value.sign() {
                    Sign::Minus => i64::MIN,
                    _ => i64::MAX,
                };
                // No division that could only find a value far beyond 64 bits.
                let bits = i64::try_from(value.bits()).unwrap_or(i64::MAX);
                if shift >= 0 || bits.saturating_add(shift * (TENTHS + 1) / 10) > i64::BITS.into() {
                    return furthest;
                }
                floor(value, &power(-shift)).unwrap_or(furthest)
            }
        }
    }
}

/// The quotient rounded down, if it fits.
fn floor(value: &BigInt, by: &BigInt) -> Option<i64> {
    let quotient = i64::try_from(value / by).ok()?;
    let below = value.sign() == Sign::Minus && (value % by).sign() != Sign::NoSign;
    if below { quotient.checked_sub(1) } else { Some(quotient) }
}
