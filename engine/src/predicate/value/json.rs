//! JSON in canonical form: jsonb values that Postgres holds equal become equal bytes. Numbers lose
//! the zeros at their end, keys are sorted and the last of equal keys stays.

use super::num::Num;
use std::collections::BTreeMap;

/// Levels of nesting; Postgres's own bound is its stack.
const NESTING_MAX: usize = 64;

/// The canonical form of `text`; `None` if it is no JSON, or nested too deeply.
pub(super) fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { text, place: 0 };
    let mut out = Vec::with_capacity(text.len());
    reader.value(&mut out, 0)?;
    reader.blanks();
    (reader.place == text.len()).then_some(out)
}

struct Reader<'a> {
    text: &'a [u8],
    place: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.place += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.place += 1)
    }

    fn value(&mut self, out: &mut Vec<u8>, level: usize) -> Option<()> {
        if level > NESTING_MAX {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.object(out, level),
            b'[' => self.array(out, level),
            b'"' => {
                let text = self.string()?;
                out.push(b'"');
                out.extend(text.len().to_be_bytes());
                out.extend(text);
                Some(())
            }
            b't' => self.word(out, b"true"),
            b'f' => self.word(out, b"false"),
            b'n' => self.word(out, b"null"),
            _ => self.number(out),
        }
    }

    fn word(&mut self, out: &mut Vec<u8>, word: &[u8]) -> Option<()> {
        let rest = self.text.get(self.place..)?;
        rest.starts_with(word).then(|| {
            self.place += word.len();
            out.extend(word);
        })
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let start = self.place;
        let digits = |reader: &mut Self| {
            let from = reader.place;
            while reader.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                reader.place += 1;
            }
            reader.place - from
        };
        let _ = self.take(b'-');
        let leading_zero = self.peek()? == b'0';
        let whole = digits(self);
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        if self.take(b'.').is_some() && digits(self) == 0 {
            return None;
        }
        if self.peek().is_some_and(|byte| matches!(byte, b'e' | b'E')) {
            self.place += 1;
            let _ = self.take(b'+').or_else(|| self.take(b'-'));
            if digits(self) == 0 {
                return None;
            }
        }
        let number = Num::parse(&self.text[start..self.place])?.ok()?.to_string();
        let number = match number.contains('.') {
            true => number.trim_end_matches('0').trim_end_matches('.'),
            false => &number,
        };
        out.extend(if number == "-0" { b"0" } else { number.as_bytes() });
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>, level: usize) -> Option<()> {
        self.take(b'[')?;
        out.push(b'[');
        self.blanks();
        if self.take(b']').is_none() {
            loop {
                self.value(out, level + 1)?;
                out.push(b',');
                self.blanks();
                if self.take(b']').is_some() {
                    break;
                }
                self.take(b',')?;
            }
        }
        out.push(b']');
        Some(())
    }

    fn object(&mut self, out: &mut Vec<u8>, level: usize) -> Option<()> {
        self.take(b'{')?;
        let mut members = BTreeMap::new();
        self.blanks();
        if self.take(b'}').is_none() {
            loop {
                self.blanks();
                let key = self.string()?;
                self.blanks();
                self.take(b':')?;
                let mut value = Vec::new();
                self.value(&mut value, level + 1)?;
                members.insert(key, value);
                self.blanks();
                if self.take(b'}').is_some() {
                    break;
                }
                self.take(b',')?;
            }
        }
        out.push(b'{');
        for (key, value) in members {
            out.extend(key.len().to_be_bytes());
            out.extend(key);
            out.push(b':');
            out.extend(value);
        }
        out.push(b'}');
        Some(())
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            let byte = self.peek()?;
            self.place += 1;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let escape = self.peek()?;
                    self.place += 1;
                    match escape {
                        b'"' | b'\\' | b'/' => text.push(escape),
                        b'b' => text.push(8),
                        b'f' => text.push(12),
                        b'n' => text.push(b'\n'),
                        b'r' => text.push(b'\r'),
                        b't' => text.push(b'\t'),
                        b'u' => {
                            let mut utf8 = [0; 4];
                            text.extend(self.unicode()?.encode_utf8(&mut utf8).as_bytes());
                        }
                        _ => return None,
                    }
                }
                0..=31 => return None,
                _ => text.push(byte),
            }
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.place..self.place + 4)?;
        self.place += 4;
        digits
            .iter()
            .try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    }

    /// jsonb has no U+0000.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        let code = if (0xD800..0xDC00).contains(&high) {
            self.take(b'\\')?;
            self.take(b'u')?;
            let low = self.hex()?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            0x10000 + ((high - 0xD800) << 10) + low
        } else {
            high
        };
        char::from_u32(code).filter(|character| *character != '\0')
    }
}
