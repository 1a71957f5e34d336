//! Tokens: a clause cut up by sqlparser, blanks and comments left out, each with its place; and the
//! bounds that are checked before anything is built.

use super::tree::Kind;
use crate::predicate::Params;
use crate::predicate::error::{Position, WhereError};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Word};

/// A clause's longest text, with that of its parameters.
pub(crate) const CLAUSE_BYTES_MAX: usize = 64 << 10;
/// The most tokens. `(("schema"."table"."column") = (-7)) OR` has 16.
pub(crate) const TOKENS_MAX: usize = 16_000;
/// How deep brackets, functions and the like may stand in one another. Each level costs the parser
/// some frames of stack.
pub(crate) const NESTING_MAX: usize = 50;

/// Where which parameters stand.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(Position, usize)>);

impl Places {
    /// The number of the parameter that stands at `position`, if one does.
    pub(crate) fn number(&self, position: Position) -> Option<usize> {
        // Noted from left to right.
        let place = self.0.binary_search_by_key(&position, |(place, _)| *place).ok()?;
        Some(self.0[place].1)
    }

    /// An error of a constant that is a parameter, as one of that.
    pub(crate) fn named(&self, error: WhereError) -> WhereError {
        let WhereError::InvalidConstant { type_name, text, position } = error else { return error };
        match self.number(position) {
            Some(number) => WhereError::InvalidParameter { number, type_name, text, position },
            None => WhereError::InvalidConstant { type_name, text, position },
        }
    }
}

/// A clause's tokens, and where the parser is in them.
pub(super) struct Tokens {
    tokens: Vec<TokenWithSpan>,
    params: Box<Params>,
    places: Places,
    end: Position,
    next: usize,
    nesting: usize,
}

impl Tokens {
    pub(super) fn new(clause: &str, params: &Params) -> Result<Tokens, WhereError> {
        let texts = params.iter().flatten().map(|text| text.len());
        let bytes = clause.len() + texts.sum::<usize>();
        if bytes > CLAUSE_BYTES_MAX {
            return Err(WhereError::TooLong { bytes, bytes_max: CLAUSE_BYTES_MAX });
        }
        let dialect = PostgreSqlDialect {};
        // Few clauses have more; a buffer that grows is copied as often as it does.
        let mut tokens = Vec::with_capacity(clause.len() / 2 + 1);
        let cut = Tokenizer::new(&dialect, clause).tokenize_with_location_into_buf(&mut tokens);
        cut.map_err(|error| WhereError::Syntax {
            message: error.message,
            position: error.location.into(),
        })?;
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
        if tokens.iter().any(|token| matches!(token.token, Token::CustomBinaryOperator(_))) {
            tokens = apart(tokens);
        }
        if let Some(token) = tokens.get(TOKENS_MAX) {
            let (what, position) = ("words and signs", token.span.start.into());
            return Err(WhereError::TooComplex { what, count_max: TOKENS_MAX, position });
        }
        let (params, places) = (params.into(), Places::default());
        Ok(Tokens { tokens, params, places, end: end_of(clause), next: 0, nesting: 0 })
    }

    /// The next token, if there is one.
    pub(super) fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    /// The token after so many others.
    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.next + ahead).map(|token| &token.token)
    }

    /// Where the next token stands, or the text ends.
    pub(super) fn place(&self) -> Position {
        self.tokens.get(self.next).map_or(self.end, |token| token.span.start.into())
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes the next token, which is a number or a text, for what it holds.
    pub(super) fn take_text(&mut self) -> String {
        // Nothing looks back at what was taken.
        let token = self.tokens.get_mut(self.next).map(|token| &mut token.token);
        self.next += 1;
        match token {
            Some(Token::Number(text, _) | Token::SingleQuotedString(text)) => std::mem::take(text),
            _ => String::new(),
        }
    }

    /// The next token as a word without quotes.
    fn word_at(&self, ahead: usize) -> Option<&Word> {
        match self.peek_at(ahead) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(word),
            _ => None,
        }
    }

    /// Whether the tokens after so many others are these words, whatever their case.
    pub(super) fn are_words(&self, ahead: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(index, expected)| {
            self.word_at(ahead + index).is_some_and(|w| w.value.eq_ignore_ascii_case(expected))
        })
    }

    /// Takes the next token if it is the word `word`.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.are_words(0, &[word]);
        self.next += usize::from(found);
        found
    }

    /// Takes the next token if it is `token`.
    pub(super) fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    /// Takes `token`, or fails.
    pub(super) fn expect(&mut self, token: &Token) -> Result<(), WhereError> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(&token.to_string())) }
    }

    /// Takes the word `word`, or fails.
    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), WhereError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    /// Fails unless the text ends here, and has every parameter in it.
    pub(super) fn end(self) -> Result<Places, WhereError> {
        if self.peek().is_some() {
            return Err(self.unexpected("an operator or the end"));
        }
        let used = |number: &usize| self.places.0.iter().any(|(_, used)| used == number);
        match (1..=self.params.len()).find(|number| !used(number)) {
            Some(number) => Err(WhereError::UnusedParameter { number, position: self.end }),
            None => Ok(self.places),
        }
    }

    /// Takes the parameter `name`, as the constant that it is.
    pub(super) fn parameter(&mut self, name: &str) -> Result<Kind, WhereError> {
        let number = name.strip_prefix('$').filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = number.and_then(|digits| digits.parse::<usize>().ok()) else {
            return Err(self.unsupported("a parameter that is not $1, $2 and so on"));
        };
        let (position, given) = (self.place(), self.params.len());
        let value = number.checked_sub(1).and_then(|index| self.params.get(index));
        let Some(value) = value else {
            return Err(WhereError::UnknownParameter { number, given, position });
        };
        let kind = value.as_ref().map_or(Kind::Null, |text| Kind::Text(text.to_string()));
        self.places.0.push((position, number));
        self.advance();
        Ok(kind)
    }

    /// The error that the next token is not what was `expected`.
    pub(super) fn unexpected(&self, expected: &str) -> WhereError {
        let found = self.peek().map_or("the end".to_owned(), Token::to_string);
        self.syntax(format!("expected {expected}, found {found}"))
    }

    /// A syntax error at the next token.
    pub(super) fn syntax(&self, message: String) -> WhereError {
        WhereError::Syntax { message, position: self.place() }
    }

    /// The error that what starts at the next token is outside of the language.
    pub(super) fn unsupported(&self, what: &str) -> WhereError {
        WhereError::Unsupported { what: what.into(), position: self.place() }
    }

    /// Runs `inner` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Tokens) -> Result<T, WhereError>,
    ) -> Result<T, WhereError> {
        if self.nesting == NESTING_MAX {
            let (what, count_max) = ("levels of nesting", NESTING_MAX);
            return Err(WhereError::TooComplex { what, count_max, position: self.place() });
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }
}

/// The tokens that `tokens` are to Postgres. `>-` is one operator to sqlparser; to Postgres no
/// operator of these characters ends with the sign of a number.
fn apart(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut all = Vec::with_capacity(tokens.len() + 1);
    for token in tokens {
        match signed(&token) {
            Some((first, signs)) => {
                all.push(first);
                all.extend(signs);
            }
            None => all.push(token),
        }
    }
    all
}

/// An operator that signs of a number follow, as one token each.
fn signed(token: &TokenWithSpan) -> Option<(TokenWithSpan, Vec<TokenWithSpan>)> {
    let Token::CustomBinaryOperator(text) = &token.token else { return None };
    let (first, len) = match text.trim_end_matches(['+', '-']) {
        "<>" => (Token::Neq, 2),
        "<=" => (Token::LtEq, 2),
        ">=" => (Token::GtEq, 2),
        "<" => (Token::Lt, 1),
        ">" => (Token::Gt, 1),
        "=" => (Token::Eq, 1),
        "*" => (Token::Mul, 1),
        "/" => (Token::Div, 1),
        "" if text.starts_with('+') => (Token::Plus, 1),
        "" => (Token::Minus, 1),
        _ => return None,
    };
    // Two would have begun a comment.
    if text.contains("--") {
        return None;
    }
    let Location { line, column } = token.span.start;
    let at = |token, index: usize| {
        let start = Location { line, column: column + index as u64 };
        TokenWithSpan::new(token, Span::new(start, start))
    };
    let sign = |sign| if sign == '+' { Token::Plus } else { Token::Minus };
    let signs = text.char_indices().skip(len).map(|(index, found)| at(sign(found), index));
    Some((at(first, 0), signs.collect()))
}

fn end_of(clause: &str) -> Position {
    let (before, last) = clause.rsplit_once('\n').map_or(("", clause), |split| split);
    let line = if last.len() == clause.len() { 1 } else { before.matches('\n').count() as u64 + 2 };
    Position { line, column: last.chars().count() as u64 + 1 }
}

impl From<Location> for Position {
    fn from(location: Location) -> Position {
        Position { line: location.line, column: location.column }
    }
}
