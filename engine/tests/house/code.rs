//! Code: a source file as tokens, without its comments and texts, so that a word in a sentence is
//! never taken for code. What only tests compile is marked.

/// A file of the workspace.
pub(crate) struct Source {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
}

/// A word (name, keyword, number) or a single sign.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Only tests compile it.
    pub(crate) test: bool,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let mut tokens = Lexer { chars: text.chars().collect(), at: 0, line: 1 }.tokens();
        if path.contains("/tests/") && !path.contains("/src/") {
            tokens.iter_mut().for_each(|token| token.test = true);
        } else {
            mark_tests(&mut tokens);
        }
        Source { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    /// Where the modules lie that this file declares for tests alone: a file or a folder each,
    /// without its ending.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let root = ["/mod", "/lib", "/main"].iter().find_map(|root| stem.strip_suffix(root));
        let folder = root.unwrap_or(stem);
        let declares = |window: &&[Token]| {
            window[0].is("mod") && window[0].test && window[1].is_word() && window[2].is(";")
        };
        let found = self.tokens.windows(3).filter(declares);
        found.map(|window| format!("{folder}/{}", window[1].text)).collect()
    }

    /// The whole file is compiled for tests alone.
    pub(crate) fn become_test(&mut self) {
        self.tokens.iter_mut().for_each(|token| token.test = true);
    }
}

/// The index after the one that closes what `tokens[open]` opens.
pub(crate) fn after_closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Marks each item behind `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at].is("#") && tokens.get(at + 1).is_some_and(|token| token.is("["));
        if !attribute {
            at += 1;
            continue;
        }
        let end = after_closing(tokens, at + 1);
        let words: Vec<_> = tokens[at + 2..end].iter().filter(|token| token.is_word()).collect();
        let starts = |with: &[&str]| {
            words.len() >= with.len() && words.iter().zip(with).all(|(word, text)| word.is(text))
        };
        if starts(&["cfg", "test"]) || starts(&["cfg", "all", "test"]) {
            let end = end_of_item(tokens, end);
            tokens[at..end].iter_mut().for_each(|token| token.test = true);
            at = end;
        } else {
            at = end;
        }
    }
}

/// The index after the item that starts at `at`, which may have more attributes.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" => return after_closing(tokens, at),
            "(" | "[" => at = after_closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn tokens(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(c) = self.peek(0) {
            let line = self.line;
            let text = match c {
                '/' if self.peek(1) == Some('/') => self.skip_line(),
                '/' if self.peek(1) == Some('*') => self.skip_block(),
                '"' => self.skip_text(0),
                '\'' => self.skip_char(),
                c if is_word_char(c) => self.word(),
                c => self.bump().filter(|_| !c.is_whitespace()).map(String::from),
            };
            tokens.extend(text.map(|text| Token { line, text, test: false }));
        }
        tokens
    }

    fn skip_line(&mut self) -> Option<String> {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.bump();
        }
        None
    }

    fn skip_block(&mut self) -> Option<String> {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return None,
                _ => {
                    self.bump();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return None;
            }
        }
    }

    /// A text in quotes; with `hashes`, or `usize::MAX` for none, it is a raw one.
    fn skip_text(&mut self, hashes: usize) -> Option<String> {
        self.bump();
        while let Some(c) = self.bump() {
            if c == '\\' && hashes == 0 {
                self.bump();
            } else if c == '"' {
                let wanted = if hashes == usize::MAX { 0 } else { hashes };
                if (0..wanted).all(|ahead| self.peek(ahead) == Some('#')) {
                    self.at += wanted;
                    return None;
                }
            }
        }
        None
    }

    /// A character, or the tick of a lifetime with its name.
    fn skip_char(&mut self) -> Option<String> {
        self.bump();
        if self.peek(0) == Some('\\') {
            self.bump();
            self.bump();
            while self.bump().is_some_and(|c| c != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.bump();
            self.bump();
        } else {
            while self.peek(0).is_some_and(is_word_char) {
                self.bump();
            }
        }
        None
    }

    fn word(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek(0).is_some_and(is_word_char) {
            self.bump();
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        match (word.as_str(), self.peek(hashes)) {
            ("r" | "br" | "cr", Some('"')) => {
                self.at += hashes;
                self.skip_text(if hashes == 0 { usize::MAX } else { hashes })
            }
            ("b" | "c", Some('"')) if hashes == 0 => self.skip_text(0),
            ("b", Some('\'')) if hashes == 0 => self.skip_char(),
            _ => Some(word),
        }
    }
}
