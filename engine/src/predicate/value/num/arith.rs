//! Arithmetic of numerics, as in Postgres's `numeric.c`: exact where it can be, and where it
//! cannot, with as many digits.

use super::{
    BigInt, DIV_DIGITS_MIN, DIV_SCALE_MAX, Dec, Num, NumError, ROUND_SCALE_MAX, SCALE_MAX, Sign,
    divide_rounded, power,
};

impl Num {
    /// The negative.
    pub(crate) fn negate(&self) -> Num {
        match self {
            Num::NegInfinity => Num::Infinity,
            Num::Infinity => Num::NegInfinity,
            Num::NaN => Num::NaN,
            Num::Finite(value) => {
                let negated = Dec::new(-value.coefficient.big(), value.scale());
                negated.map_or(Num::NaN, Num::Finite)
            }
        }
    }

    /// The absolute value.
    pub(crate) fn abs(&self) -> Num {
        if self.sign() < 0 { self.negate() } else { self.clone() }
    }

    /// The sum.
    pub(crate) fn add(&self, other: &Num) -> Result<Num, NumError> {
        Ok(match (self, other) {
            (Num::Finite(a), Num::Finite(b)) => {
                let scale = a.scale().max(b.scale());
                Num::Finite(Dec::new(a.at(scale) + b.at(scale), scale)?)
            }
            (Num::NaN, _) | (_, Num::NaN) => Num::NaN,
            (Num::Infinity, Num::NegInfinity) | (Num::NegInfinity, Num::Infinity) => Num::NaN,
            (Num::Finite(_), infinite) | (infinite, _) => infinite.clone(),
        })
    }

    /// The difference.
    pub(crate) fn subtract(&self, other: &Num) -> Result<Num, NumError> {
        self.add(&other.negate())
    }

    /// The product.
    pub(crate) fn multiply(&self, other: &Num) -> Result<Num, NumError> {
        Ok(match (self, other) {
            (Num::Finite(a), Num::Finite(b)) => {
                let (product, scale) =
                    (a.coefficient.big() * b.coefficient.big(), a.scale() + b.scale());
                if scale > SCALE_MAX {
                    let product = divide_rounded(&product, &power(scale - SCALE_MAX));
                    Num::Finite(Dec::new(product, SCALE_MAX)?)
                } else {
                    Num::Finite(Dec::new(product, scale)?)
                }
            }
            (Num::NaN, _) | (_, Num::NaN) => Num::NaN,
            (a, b) => match a.sign() * b.sign() {
                0 => Num::NaN,
                sign => Num::infinity(sign),
            },
        })
    }

    /// The quotient.
    pub(crate) fn divide(&self, other: &Num) -> Result<Num, NumError> {
        match (self, other) {
            (Num::NaN, _) | (_, Num::NaN) => Ok(Num::NaN),
            (_, Num::Finite(b)) if b.coefficient.sign() == 0 => Err(NumError::DivisionByZero),
            (Num::Finite(a), Num::Finite(b)) => {
                let scale = quotient_scale(a, b);
                // a / 10^sa / (b / 10^sb) * 10^scale
                let shift = scale - a.scale() + b.scale();
                let (mut dividend, mut divisor) = (a.coefficient.big(), b.coefficient.big());
                if shift >= 0 {
                    dividend *= power(shift);
                } else {
                    divisor *= power(-shift);
                }
                Ok(Num::Finite(Dec::new(divide_rounded(&dividend, &divisor), scale)?))
            }
            (Num::Finite(_), _) => Ok(Num::from(0)),
            (a, Num::Finite(_)) => Ok(Num::infinity(a.sign() * other.sign())),
            _ => Ok(Num::NaN),
        }
    }

    /// The remainder, with the sign of the dividend.
    pub(crate) fn remainder(&self, other: &Num) -> Result<Num, NumError> {
        match (self, other) {
            (Num::NaN, _) | (_, Num::NaN) => Ok(Num::NaN),
            (_, Num::Finite(b)) if b.coefficient.sign() == 0 => Err(NumError::DivisionByZero),
            (Num::Finite(a), Num::Finite(b)) => {
                let scale = a.scale().max(b.scale());
                Ok(Num::Finite(Dec::new(a.at(scale) % b.at(scale), scale)?))
            }
            (Num::Finite(_), _) => Ok(self.clone()),
            _ => Ok(Num::NaN),
        }
    }

    /// Rounded half away from zero to `places` after the point, which are then shown.
    pub(crate) fn round(&self, places: i64) -> Result<Num, NumError> {
        let Num::Finite(value) = self else { return Ok(self.clone()) };
        let places = places.clamp(-ROUND_SCALE_MAX, ROUND_SCALE_MAX);
        let mut rounded = value.rounded(places);
        if places < 0 && rounded.sign() != Sign::NoSign {
            rounded *= power(-places);
        }
        Ok(Num::Finite(Dec::new(rounded, places.max(0))?))
    }

    /// As a `numeric(precision, scale)`.
    pub(crate) fn limited(&self, precision: u16, scale: u16) -> Result<Num, NumError> {
        let Num::Finite(_) = self else {
            let fits = matches!(self, Num::NaN);
            return if fits { Ok(self.clone()) } else { Err(NumError::Overflow) };
        };
        let rounded = self.round(i64::from(scale))?;
        let limit = power(i64::from(precision));
        match &rounded {
            Num::Finite(value)
                if BigInt::from(value.coefficient.big().magnitude().clone()) >= limit =>
            {
                Err(NumError::Overflow)
            }
            _ => Ok(rounded),
        }
    }
}

/// How many digits after the point a quotient gets: enough for 16 significant ones, and not fewer
/// than either operand has.
fn quotient_scale(a: &Dec, b: &Dec) -> i64 {
    let ((a_weight, a_digit), (b_weight, b_digit)) = (a.first_digit(), b.first_digit());
    let mut weight = a_weight - b_weight;
    if a_digit <= b_digit {
        weight -= 1;
    }
    let scale = DIV_DIGITS_MIN - weight * 4;
    scale.max(a.scale()).max(b.scale()).clamp(0, DIV_SCALE_MAX)
}
