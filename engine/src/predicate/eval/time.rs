//! Arithmetic of dates, timestamps and intervals. None of it needs a time zone.

use super::{Result, out_of_range};
use crate::predicate::expr::TimeOp;
use crate::predicate::types::Scalar;
use crate::predicate::value::{
    DAY_MICROS, Datum, INFINITY_DATE, INFINITY_TIME, Interval, in_timestamp_range, shift_months,
    valid_date,
};

fn is_infinite(value: i64, (lowest, highest): (i64, i64)) -> bool {
    value == lowest || value == highest
}

/// `left op right`.
pub(super) fn time<'a>(op: TimeOp, left: &Datum<'_>, right: &Datum<'_>) -> Result<Datum<'a>> {
    match (op, left, right) {
        (TimeOp::DatePlusDays, Datum::Int(date), Datum::Int(days)) => shift_days(*date, *days),
        (TimeOp::DateMinusDays, Datum::Int(date), Datum::Int(days)) => shift_days(*date, -*days),
        (TimeOp::DateMinusDate, Datum::Int(left), Datum::Int(right)) => {
            let infinite = is_infinite(*left, INFINITY_DATE) || is_infinite(*right, INFINITY_DATE);
            let days = (left - right, infinite);
            if days.1 { Err(out_of_range(Scalar::Date)) } else { Ok(Datum::Int(days.0)) }
        }
        (TimeOp::TimestampPlusInterval, Datum::Int(at), Datum::Interval(by)) => shift(*at, *by),
        (TimeOp::TimestampMinusInterval, Datum::Int(at), Datum::Interval(by)) => {
            let by = by.negate().ok_or_else(|| out_of_range(Scalar::Interval))?;
            shift(*at, by)
        }
        (TimeOp::TimestampMinusTimestamp, Datum::Int(left), Datum::Int(right)) => {
            difference(*left, *right)
        }
        (TimeOp::IntervalPlusInterval, Datum::Interval(left), Datum::Interval(right)) => {
            left.add(*right).map(Datum::Interval).ok_or_else(|| out_of_range(Scalar::Interval))
        }
        (TimeOp::IntervalMinusInterval, Datum::Interval(left), Datum::Interval(right)) => {
            let minus = |right: Interval| left.add(right);
            let difference =
                Interval { months: right.months, days: right.days, micros: right.micros };
            let difference = difference.negate().and_then(minus);
            difference.map(Datum::Interval).ok_or_else(|| out_of_range(Scalar::Interval))
        }
        _ => Err(out_of_range(Scalar::Timestamp)),
    }
}

/// The negative of an interval.
pub(super) fn negate<'a>(value: &Datum<'_>) -> Result<Datum<'a>> {
    let Datum::Interval(value) = value else { return Err(out_of_range(Scalar::Interval)) };
    value.negate().map(Datum::Interval).ok_or_else(|| out_of_range(Scalar::Interval))
}

fn shift_days<'a>(date: i64, days: i64) -> Result<Datum<'a>> {
    if is_infinite(date, INFINITY_DATE) {
        return Ok(Datum::Int(date));
    }
    let date = date + days;
    if valid_date(date) { Ok(Datum::Int(date)) } else { Err(out_of_range(Scalar::Date)) }
}

/// Months first, then days, then the rest.
fn shift<'a>(at: i64, by: Interval) -> Result<Datum<'a>> {
    if is_infinite(at, INFINITY_TIME) {
        return Ok(Datum::Int(at));
    }
    let (mut days, time) = (at.div_euclid(DAY_MICROS), at.rem_euclid(DAY_MICROS));
    if by.months != 0 {
        days = shift_months(days, by.months.into());
    }
    days += i64::from(by.days);
    let moved = days.checked_mul(DAY_MICROS).and_then(|micros| micros.checked_add(time));
    let moved = moved.and_then(|micros| micros.checked_add(by.micros));
    let moved = moved.filter(|micros| in_timestamp_range(*micros));
    moved.map(Datum::Int).ok_or_else(|| out_of_range(Scalar::Timestamp))
}

/// In days and a time of day, which both have the sign of the whole.
fn difference<'a>(left: i64, right: i64) -> Result<Datum<'a>> {
    let infinite = is_infinite(left, INFINITY_TIME) || is_infinite(right, INFINITY_TIME);
    let micros = left.checked_sub(right).filter(|_| !infinite);
    let micros = micros.ok_or_else(|| out_of_range(Scalar::Timestamp))?;
    let days = i32::try_from(micros / DAY_MICROS).map_err(|_| out_of_range(Scalar::Interval))?;
    Ok(Datum::Interval(Interval { months: 0, days, micros: micros % DAY_MICROS }))
}
