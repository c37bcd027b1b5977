//! JSON, as far as the runner's processes speak it: objects of text and whole numbers, a line each.
//!
//! Why not serde_json: this crate is in the graph of every program that is simulated as a whole, and whatever traits its
//! dependencies implement for the standard types are there for that program too. serde_json compares its values with
//! integers and text, and so `assert_eq!(items, vec![])` no longer says to the compiler of what type the items are: programs
//! that build without the simulator would not build with it. So no dependency of this crate may do that.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// `object! { "name": value, … }`.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {
        $crate::json::Json::Object(vec![$(($name.to_owned(), $crate::json::Json::from($value))),*])
    };
}
pub(crate) use object;

impl Json {
    /// The value of this name in an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Object(entries) = self else { return None };
        entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The text of this name in an object.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Gives an object a further entry.
    pub fn set(&mut self, name: &str, value: impl Into<Json>) {
        let Json::Object(entries) = self else { panic!("{self} has no entries") };
        entries.push((name.to_owned(), value.into()));
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Json {
            fn from(value: $integer) -> Json {
                Json::Number(value as i128)
            }
        })*
    };
}
from_integers!(i32, u32, u64, usize);

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Json {
        Json::Text(text.clone())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(values: Vec<T>) -> Json {
        Json::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Json>> From<BTreeMap<String, T>> for Json {
    fn from(entries: BTreeMap<String, T>) -> Json {
        Json::Object(entries.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(value) => write!(f, "{value}"),
            Json::Text(text) => quote(text, f),
            Json::List(values) => {
                f.write_char('[')?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Json::Object(entries) => {
                f.write_char('{')?;
                for (i, (name, value)) in entries.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    quote(name, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

/// RFC 8259, section 7.
fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// A text that is not what [`Json`] writes.
#[derive(Debug)]
pub(crate) struct NoJson;

impl FromStr for Json {
    type Err = NoJson;

    /// Reads all of what is written here. What else JSON allows and nobody here writes, as fractions, is refused.
    fn from_str(text: &str) -> Result<Json, NoJson> {
        let mut reader = Reader { left: text };
        let value = reader.value()?;
        reader.skip_space();
        if reader.left.is_empty() { Ok(value) } else { Err(NoJson) }
    }
}

struct Reader<'a> {
    left: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.left = self.left.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `token` if it is next.
    fn takes(&mut self, token: &str) -> bool {
        self.skip_space();
        let rest = self.left.strip_prefix(token);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    fn value(&mut self) -> Result<Json, NoJson> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.takes(word) {
                return Ok(value);
            }
        }
        if self.takes("\"") {
            return self.text().map(Json::Text);
        }
        if self.takes("[") {
            return self.entries("]", Reader::value).map(Json::List);
        }
        if self.takes("{") {
            let entry = |reader: &mut Self| {
                let name = if reader.takes("\"") { reader.text()? } else { return Err(NoJson) };
                if reader.takes(":") { Ok((name, reader.value()?)) } else { Err(NoJson) }
            };
            return self.entries("}", entry).map(Json::Object);
        }
        let end = self.left.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(self.left.len());
        let (number, rest) = self.left.split_at(end);
        self.left = rest;
        number.parse().map(Json::Number).map_err(|_| NoJson)
    }

    fn entries<T>(&mut self, end: &str, one: impl Fn(&mut Self) -> Result<T, NoJson>) -> Result<Vec<T>, NoJson> {
        let mut entries = Vec::new();
        if self.takes(end) {
            return Ok(entries);
        }
        loop {
            entries.push(one(self)?);
            if self.takes(end) {
                return Ok(entries);
            }
            if !self.takes(",") {
                return Err(NoJson);
            }
        }
    }

    /// The rest of a text whose opening quote was taken.
    fn text(&mut self) -> Result<String, NoJson> {
        let mut text = String::new();
        loop {
            let mut chars = self.left.chars();
            let c = match chars.next().ok_or(NoJson)? {
                '"' => {
                    self.left = chars.as_str();
                    return Ok(text);
                }
                '\\' => match chars.next().ok_or(NoJson)? {
                    'n' => '\n',
                    't' => '\t',
                    'u' => {
                        let digits = chars.as_str().get(..4).ok_or(NoJson)?;
                        chars = chars.as_str()[4..].chars();
                        // Only control characters are written so.
                        u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or(NoJson)?
                    }
                    c @ ('"' | '\\') => c,
                    _ => return Err(NoJson),
                },
                c => c,
            };
            text.push(c);
            self.left = chars.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut value = object! {
            "text": "a \"quoted\" \\ line\n\tof \u{1}ü and 中",
            "numbers": vec![0, u64::MAX, 17],
            "nothing": None::<u64>,
            "flag": true,
            "none": Vec::<u64>::new(),
            "inner": BTreeMap::from([("b".to_owned(), 2u64), ("a".to_owned(), 1)]),
        };
        value.set("negative", -3);
        let text = value.to_string();
        assert!(text.contains("\"inner\":{\"a\":1,\"b\":2}") && !text.contains('\n'), "{text}");
        let read: Json = text.parse().unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(read.to_string(), text);
        assert_eq!(read.text("text"), value.text("text"));
        assert!(matches!(read.get("negative"), Some(Json::Number(-3))));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\"}", "\"a", "1 2", "nul", "1.5", "\"\\x\"", "\"\\u00"] {
            assert!(text.parse::<Json>().is_err(), "{text}");
        }
        assert!(" { \"a\" : [ 1 , 2 ] } ".parse::<Json>().is_ok());
    }
}
