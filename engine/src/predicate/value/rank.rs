//! Rank: a number of 64 bits for each value, which never falls where values of one type rise. Two
//! values with different ranks are in the order of their ranks; only those with the same one have
//! to be compared themselves. So an ordered structure looks at values rarely.

use super::{Datum, Float};

impl Datum<'_> {
    /// This value's rank among those of its type.
    pub(crate) fn rank(&self) -> i64 {
        match self {
            Datum::Bool(value) => i64::from(*value),
            Datum::Int(value) => *value,
            Datum::Float(value) => float(*value),
            Datum::Num(value) => value.order(),
            Datum::Bytes(value) => bytes(value),
            Datum::Uuid(value) => bytes(value),
            Datum::Interval(value) => value.order(),
            Datum::Array(_) => 0,
        }
    }
}

fn float(Float(value): Float) -> i64 {
    if value.is_nan() {
        return i64::MAX;
    }
    // Without the sign of a zero. The bits of positive floats rise with them, those of negative
    // ones fall.
    let bits = (value + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// The first eight bytes; a shorter text is followed by zeros.
fn bytes(value: &[u8]) -> i64 {
    let mut first = [0; 8];
    first.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    (u64::from_be_bytes(first) ^ (1 << 63)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::input;
    use super::*;
    use crate::predicate::types::Scalar;
    use proptest::prelude::*;

    /// Texts of numbers of every size, and close to one another.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,3}\\.[0-9]{0,6}",
            "-?[0-9]{1,30}\\.[0-9]{1,30}",
            "-?[0-9]{1,4}e-?[0-9]{1,3}",
            "-?92233720368547[0-9]{0,8}",
            "(NaN|-?Infinity|0|-0)",
        ]
    }

    fn consistent(a: &Datum<'_>, b: &Datum<'_>) {
        let (ranks, values) = (a.rank().cmp(&b.rank()), a.cmp(b));
        assert!(ranks.is_eq() || ranks == values, "{a:?} {b:?}");
    }

    proptest! {
        #[test]
        fn ranks_are_in_the_order_of_values(a in number(), b in number(), x: f64, y: f64) {
            for scalar in [Scalar::Numeric, Scalar::Float8] {
                let of = scalar.plain();
                if let (Ok(a), Ok(b)) = (input(of, a.as_bytes()), input(of, b.as_bytes())) {
                    consistent(&a, &b);
                    consistent(&b, &a);
                }
            }
            consistent(&Datum::float(x), &Datum::float(y));
            consistent(&Datum::float(x), &Datum::float(-x));
        }

        #[test]
        fn so_are_those_of_texts(
            a in prop::collection::vec(0..3_u8, 0..12),
            b in prop::collection::vec(0..3_u8, 0..12),
            high: Vec<u8>,
        ) {
            consistent(&Datum::owned(a.clone()), &Datum::owned(b));
            consistent(&Datum::owned(a), &Datum::owned(high));
        }
    }
}
