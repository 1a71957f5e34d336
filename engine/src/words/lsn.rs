//! LSN: a 64-bit position in Postgres's write-ahead log, with its text form `HEX/HEX`.

use std::fmt;
use std::str::FromStr;

/// A position in Postgres's write-ahead log, in bytes.
///
/// Text form is Postgres's own: the high and the low 32 bits in hexadecimal, `16/B374D848`.
/// The order is numeric. A transaction is named by its *commit LSN*, the start of its commit
/// record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before everything. No commit has this LSN.
    pub const ZERO: Lsn = Lsn(0);
    /// After everything. No commit has this LSN.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The LSN at byte `position`.
    pub const fn new(position: u64) -> Lsn {
        Lsn(position)
    }

    /// The position in bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The next higher position; stays at [`Lsn::MAX`].
    pub(crate) const fn next(self) -> Lsn {
        Lsn(self.0.saturating_add(1))
    }

    /// The next lower position; stays at [`Lsn::ZERO`].
    pub(crate) const fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no LSN: expected two hexadecimal numbers of 1 to 8 digits, as in 16/B374D848")]
pub struct ParseLsnError {
    text: String,
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Lsn, ParseLsnError> {
        let half = |part: &str| {
            let plain =
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_postgres_own() {
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!("16/B374D848".parse(), Ok(Lsn::new(0x16_B374_D848)));
        assert_eq!("0/0".parse(), Ok(Lsn::ZERO));
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "G/0", "+1/0", "123456789/0", " 1/0", "é/0"]
        {
            let error = text.parse::<Lsn>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn b07_text_round_trips_and_order_is_numeric(a: u64, b: u64) {
            prop_assert_eq!(Lsn::new(a).to_string().parse(), Ok(Lsn::new(a)));
            prop_assert_eq!(Lsn::new(a).cmp(&Lsn::new(b)), a.cmp(&b));
        }
    }
}
