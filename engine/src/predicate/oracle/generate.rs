//! Generated clauses: mostly well typed, of every operator, with the values at which types break.

/// A type, how Postgres calls it, and values of it.
#[derive(Debug)]
pub(super) struct SqlType {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    values: &'static [&'static str],
}

impl SqlType {
    /// The columns of this type.
    pub(super) fn columns(&self) -> impl Iterator<Item = String> + use<> {
        let name = self.name;
        ["a", "b"].into_iter().map(move |suffix| format!("{name}_{suffix}"))
    }
}

const fn of(name: &'static str, sql: &'static str, values: &'static [&'static str]) -> SqlType {
    SqlType { name, sql, values }
}

pub(super) const TYPES: [SqlType; 24] = [
    of("bool", "bool", &["t", "f"]),
    of("int2", "int2", &["0", "1", "-1", "7", "32767", "-32768", "3"]),
    of("int4", "int4", &["0", "1", "-1", "2", "5", "42", "2147483647", "-2147483648", "10"]),
    of("int8", "int8", &["0", "1", "-7", "3", "9223372036854775807", "-9223372036854775808", "42"]),
    of(
        "num",
        "numeric",
        &[
            "0",
            "1",
            "1.0",
            "-1.50",
            "0.1",
            "2.5",
            "3.5",
            "-2.5",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789",
            "0.000000000000000000001",
            "1e20",
            "42",
        ],
    ),
    of("f4", "float4", &["0", "-0", "1", "0.1", "1.5", "-2.5", "NaN", "Infinity", "1e38", "1e-40"]),
    of(
        "f8",
        "float8",
        &[
            "0",
            "-0",
            "1",
            "0.1",
            "2.5",
            "3.5",
            "-1.5",
            "NaN",
            "-Infinity",
            "1e308",
            "1e-320",
            "1e15",
        ],
    ),
    of(
        "txt",
        "text",
        &[
            "",
            "a",
            "A",
            "abc",
            "ABC",
            "aXc",
            "é",
            "z%",
            "a_c",
            " a ",
            "42",
            "1.5",
            "日本語",
            "a\\b",
        ],
    ),
    of("vc", "varchar(20)", &["", "a", "abc", "Abc", "é", "b", "a%", "7"]),
    of("bp", "char(5)", &["", "a", "abc", "ABC", "ab", "b"]),
    of("bin", "bytea", &["", "\\x00", "\\xff", "\\x6162", "\\x61"]),
    of(
        "uid",
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    of(
        "d",
        "date",
        &[
            "2000-01-01",
            "2024-02-29",
            "1999-12-31",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "2024-03-01",
        ],
    ),
    of("t", "time", &["00:00:00", "12:30:00", "23:59:59.999999", "24:00:00"]),
    of(
        "ts",
        "timestamp",
        &[
            "2000-01-01 00:00:00",
            "2024-02-29 12:30:00.5",
            "1999-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "2024-02-29 00:00:00",
        ],
    ),
    of(
        "tz",
        "timestamptz",
        &["2000-01-01 00:00:00+00", "2024-02-29 12:30:00+02", "infinity", "2024-02-29 10:30:00+00"],
    ),
    of(
        "iv",
        "interval",
        &["0 days", "1 day", "24:00:00", "1 mon", "30 days", "-1 days +02:03:04", "1 year 2 mons"],
    ),
    of("mood", "mood", &["sad", "ok", "happy"]),
    of(
        "jb",
        "jsonb",
        &[
            "1",
            "1.0",
            "{\"a\": 1, \"b\": [true, null]}",
            "{\"b\": [true, null], \"a\": 1.00}",
            "\"x\"",
            "null",
        ],
    ),
    of(
        "ia",
        "int4[]",
        &["{}", "{1}", "{1,2,3}", "{2,NULL}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{1,1}"],
    ),
    of("ta", "text[]", &["{}", "{a}", "{a,b}", "{\"\",NULL,abc}", "{\"a b\",\"c\\\"d\"}", "{A,é}"]),
    of("na", "numeric[]", &["{1}", "{1.0,2.50}", "{NaN}", "{}"]),
    of("bps", "char(3)[]", &["{}", "{a}", "{ab,\"a \"}", "{a,NULL}", "{b,abc}", "{{a},{\"\"}}"]),
    of("moods", "mood[]", &["{}", "{ok}", "{sad,ok}", "{happy,NULL}", "{{ok},{sad}}", "{ok,ok}"]),
];

/// Makes clauses.
pub(super) struct Generator {
    state: u64,
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const NUMBERS: [&str; 6] = ["int2", "int4", "int8", "num", "f4", "f8"];
const STRINGS: [&str; 3] = ["txt", "vc", "bp"];
const ORDERED: [&str; 16] = [
    "bool", "int2", "int4", "int8", "num", "f4", "f8", "txt", "vc", "bp", "bin", "uid", "d", "t",
    "ts", "iv",
];

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator { state: seed }
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }

    fn of(name: &str) -> &'static SqlType {
        TYPES.iter().find(|of| of.name == name).unwrap()
    }

    /// A value of a row.
    pub(super) fn value(&mut self, of: &SqlType) -> String {
        if self.below(6) == 0 { "NULL".into() } else { quoted(self.pick(of.values)) }
    }

    fn column(&mut self, of: &str) -> String {
        format!("{of}_{}", self.pick(&["a", "b"]))
    }

    /// A constant, as users write one.
    fn constant(&mut self, of: &str) -> String {
        let value = self.pick(Self::of(of).values);
        match (of, self.below(4)) {
            (_, 0) => format!("{}::{}", quoted(value), Self::of(of).sql),
            ("bool", _) => self.pick(&["TRUE", "FALSE"]).into(),
            ("int2" | "int4" | "int8", 1..) => value.into(),
            ("num", 1..) if value.as_bytes()[value.len() - 1].is_ascii_digit() => value.into(),
            _ => quoted(value),
        }
    }

    /// An operand of a type.
    fn operand(&mut self, of: &str, depth: usize) -> String {
        match self.below(if depth == 0 { 4 } else { 10 }) {
            0..=1 => self.column(of),
            2 => self.constant(of),
            3 if self.below(8) == 0 => "NULL".into(),
            3 => self.column(of),
            4 => self.conditional(of, depth - 1),
            _ => self.expression(of, depth - 1),
        }
    }

    fn conditional(&mut self, of: &str, depth: usize) -> String {
        let (a, b) = (self.operand(of, depth), self.operand(of, depth));
        match self.below(6) {
            0 => format!("CASE WHEN {} THEN {a} ELSE {b} END", self.condition(depth)),
            1 => format!("COALESCE({a}, {b})"),
            2 => format!("NULLIF({a}, {b})"),
            3 => format!("GREATEST({a}, {b})"),
            4 => format!("LEAST({a}, {b})"),
            _ => {
                let (value, when) = (self.operand("int4", depth), self.constant("int4"));
                format!("CASE {value} WHEN {when} THEN {a} END")
            }
        }
    }

    fn expression(&mut self, of: &str, depth: usize) -> String {
        match of {
            "int2" | "int4" | "int8" | "num" | "f4" | "f8" => self.number(of, depth),
            "txt" | "vc" | "bp" => self.text(depth),
            "d" | "ts" | "iv" => self.time(of, depth),
            "bool" => format!("({})", self.condition(depth)),
            "ia" => {
                format!("ARRAY[{}, {}]", self.operand("int4", depth), self.operand("int4", depth))
            }
            "ta" if self.below(4) == 0 => format!("{}::text[]", self.column("moods")),
            "ta" => {
                format!("ARRAY[{}, {}]", self.operand("txt", depth), self.operand("txt", depth))
            }
            "bps" => format!("ARRAY[{}, {}]", self.operand("bp", depth), self.operand("bp", depth)),
            "moods" => {
                format!("ARRAY[{}, {}]", self.operand("mood", depth), self.operand("mood", depth))
            }
            "mood" => format!("{}[{}]", self.column("moods"), self.pick(&["1", "2", "int4_a"])),
            "bin" => format!("({} || {})", self.operand("bin", depth), self.operand("bin", depth)),
            _ => self.column(of),
        }
    }

    fn number(&mut self, of: &str, depth: usize) -> String {
        let other = if self.below(3) == 0 { self.pick(&NUMBERS) } else { of };
        match self.below(12) {
            0..=4 => {
                let (a, b) = (self.operand(of, depth), self.operand(other, depth));
                let op = self.pick(&["+", "-", "*", "/", "%"]);
                format!("({a} {op} {b})")
            }
            5 => format!("(- {})", self.operand(of, depth)),
            6 => format!("abs({})", self.operand(of, depth)),
            7 => format!("round({})", self.operand(of, depth)),
            8 => format!("round({}, {})", self.operand("num", depth), self.pick(&["2", "0", "-1"])),
            9 => format!("length({})", self.operand(self.clone_pick(&STRINGS), depth)),
            10 => {
                let from = self.pick(&["int2", "int4", "int8", "num", "f4", "f8", "txt", "bool"]);
                format!("({})::{}", self.operand(from, depth), Self::of(of).sql)
            }
            _ => format!("ia_a[{}]", self.pick(&["1", "0", "2", "int4_a"])),
        }
    }

    fn clone_pick<'t>(&self, from: &[&'t str]) -> &'t str {
        from[(self.state >> 7) as usize % from.len()]
    }

    fn text(&mut self, depth: usize) -> String {
        let strings = self.pick(&STRINGS);
        let text = self.operand(strings, depth);
        let count = self.pick(&["0", "1", "2", "-1", "int2_a"]);
        match self.below(12) {
            0 => format!("lower({text})"),
            1 => format!("upper({text})"),
            2 => format!("({text} || {})", self.operand("txt", depth)),
            3 => format!(
                "({text} || {})",
                self.operand(self.clone_pick(&["int4", "num", "bool", "f8", "d", "uid"]), depth)
            ),
            4 => format!("substring({text} from {count} for 2)"),
            5 => format!("left({text}, {})", self.pick(&["0", "1", "-1", "2"])),
            6 => format!("right({text}, {})", self.pick(&["0", "1", "-1", "2"])),
            7 => format!("trim({text})"),
            8 => format!("{}({text}, 'aé ')", self.pick(&["ltrim", "rtrim", "btrim"])),
            9 => {
                let from = self.pick(&[
                    "int4", "int8", "num", "f4", "f8", "bool", "d", "ts", "t", "uid", "bin",
                ]);
                format!("({})::text", self.operand(from, depth))
            }
            10 => format!("({text})::{}", self.pick(&["varchar(2)", "char(2)", "text", "bpchar"])),
            _ => format!("{}[{}]", self.pick(&["ta_a", "bps_a"]), self.pick(&["1", "2", "0"])),
        }
    }

    fn time(&mut self, of: &str, depth: usize) -> String {
        match (of, self.below(4)) {
            ("d", 0) => {
                format!("({} + {})", self.operand("d", depth), self.pick(&["1", "-40", "int2_a"]))
            }
            ("d", 1) => format!("({})::date", self.operand("ts", depth)),
            ("ts", 0) => format!("({} + {})", self.operand("ts", depth), self.column("iv")),
            ("ts", 1) => format!("({} - {})", self.column("ts"), self.column("iv")),
            ("ts", 2) => format!("({} + {})", self.column("d"), self.column("iv")),
            ("ts", 3) => format!("({})::timestamp", self.column("d")),
            ("iv", 0) => format!("({} - {})", self.column("ts"), self.column("ts")),
            ("iv", 1) => format!("({} + {})", self.column("iv"), self.operand("iv", depth)),
            ("iv", 2) => format!("(- {})", self.column("iv")),
            ("iv", _) => format!("(tz_a - {})", self.column("tz")),
            _ => self.column(of),
        }
    }

    /// A whole clause.
    pub(super) fn clause(&mut self) -> String {
        let depth = self.below(4);
        self.condition(depth)
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth > 0 && self.below(3) == 0 {
            let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.below(5) {
                0 | 1 => format!("({a}) AND ({b})"),
                2 => format!("({a}) OR ({b})"),
                3 => format!("NOT ({a})"),
                _ => format!(
                    "({a}) IS {}",
                    self.pick(&["TRUE", "NOT TRUE", "FALSE", "UNKNOWN", "NOT UNKNOWN"])
                ),
            };
        }
        match self.below(14) {
            0..=3 => self.comparison(depth),
            4 => self.range(depth),
            5 | 6 => self.list(depth),
            7 | 8 => self.like(depth),
            9 => self.regex(depth),
            10 | 11 => self.arrays(depth),
            12 => {
                let of = TYPES[self.below(TYPES.len())].name;
                format!("{} IS {}NULL", self.operand(of, depth), self.pick(&["", "NOT "]))
            }
            _ => self.column("bool"),
        }
    }

    fn comparison(&mut self, depth: usize) -> String {
        let of = match self.below(8) {
            0 => self.pick(&["mood", "moods", "jb"]),
            1 => self.pick(&["ia", "ta", "na", "bps", "tz"]),
            _ => self.pick(&ORDERED),
        };
        let other = match of {
            of if NUMBERS.contains(&of) && self.below(2) == 0 => self.pick(&NUMBERS),
            of if STRINGS.contains(&of) && self.below(2) == 0 => self.pick(&STRINGS),
            "d" if self.below(2) == 0 => "ts",
            of => of,
        };
        let (a, b) = (self.operand(of, depth), self.operand(other, depth));
        let op = match of {
            "mood" | "moods" | "jb" => self.pick(&["=", "<>"]),
            _ => self.pick(&["=", "<>", "<", "<=", ">", ">=", "!="]),
        };
        match self.below(6) {
            0 => format!("{a} IS DISTINCT FROM {b}"),
            1 => format!("{a} IS NOT DISTINCT FROM {b}"),
            _ => format!("{a} {op} {b}"),
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let of = self.pick(&ORDERED);
        let (a, b, c) = (self.operand(of, depth), self.operand(of, depth), self.operand(of, depth));
        format!(
            "{a} {}BETWEEN {}{b} AND {c}",
            self.pick(&["", "NOT "]),
            self.pick(&["", "SYMMETRIC "])
        )
    }

    fn list(&mut self, depth: usize) -> String {
        let of = TYPES[self.below(19)].name;
        let count = 1 + self.below(3);
        let a = self.operand(of, depth);
        let items: Vec<String> = (0..count)
            .map(|_| match self.below(5) {
                0 => self.operand(of, depth),
                1 if NUMBERS.contains(&of) => self.constant(self.clone_pick(&NUMBERS)),
                _ => self.constant(of),
            })
            .collect();
        format!("{a} {}IN ({})", self.pick(&["", "NOT "]), items.join(", "))
    }

    fn like(&mut self, depth: usize) -> String {
        let strings = self.pick(&STRINGS);
        let text = self.operand(strings, depth);
        let pattern = match self.below(6) {
            0 => self.column("txt"),
            _ => quoted(self.pick(&[
                "a%", "%", "_", "A_c", "%c", "%b%", "a\\%", "", "é", "ab%c", "__", "%é%", "z!%",
            ])),
        };
        let op = self.pick(&["LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE"]);
        let escape = self.pick(&["", "", "", " ESCAPE '!'", " ESCAPE ''"]);
        format!("{text} {op} {pattern}{escape}")
    }

    fn regex(&mut self, depth: usize) -> String {
        let strings = self.pick(&STRINGS);
        let text = self.operand(strings, depth);
        let pattern = self.pick(&[
            "a",
            "^a",
            "c$",
            "^(a|b)c?$",
            "[a-c]+",
            "[^a]",
            "a.c",
            "\\d+",
            "^$",
            "a{1,2}",
            "é",
            "A+?b",
            "(?:ab)*",
            "^\\D*$",
            "",
            "日.",
            "[é-ü]",
            "\\.",
        ]);
        format!("{text} {} {}", self.pick(&["~", "~*", "!~", "!~*"]), quoted(pattern))
    }

    fn arrays(&mut self, depth: usize) -> String {
        let (array, element) = match self.below(5) {
            0 => ("ia", "int4"),
            1 => ("na", "num"),
            2 => ("moods", "mood"),
            3 => ("bps", "bp"),
            _ => ("ta", "txt"),
        };
        let op = match array {
            "moods" => self.pick(&["=", "<>"]),
            _ => self.pick(&["=", "<>", "<", ">="]),
        };
        match self.below(6) {
            0 | 1 => {
                let (a, b) = (self.operand(array, depth), self.operand(array, depth));
                format!("{a} {} {b}", self.pick(&["@>", "<@", "&&"]))
            }
            2 => format!("{} = ANY ({})", self.operand(element, depth), self.operand(array, depth)),
            3 => format!("{} {op} ALL ({})", self.operand(element, depth), self.column(array)),
            4 => format!("{} {op} ANY ({})", self.operand(element, depth), self.constant(array)),
            _ => format!("{}[1] {op} {}", self.column(array), self.operand(element, depth)),
        }
    }
}
