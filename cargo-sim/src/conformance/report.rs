//! What was found, for people and as JSON.

use super::class::Class;
use super::run::Tested;
use crate::app::say::say;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How many tests ended how.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, usize>);

impl Counts {
    fn add(&mut self, result: &Tested) {
        *self.0.entry(result.end.name()).or_default() += 1;
    }

    fn line(&self) -> String {
        let all: usize = self.0.values().sum();
        let parts: String = self.0.iter().map(|(name, n)| format!(", {n} {name}")).collect();
        format!("{all:5} tests{parts}")
    }
}

/// A line for each file, and one for each class.
pub fn table(results: &[Tested]) {
    let mut files: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut classes: BTreeMap<Class, Counts> = BTreeMap::new();
    for result in results {
        files.entry(&result.file).or_default().add(result);
        classes.entry(result.class).or_default().add(result);
    }
    files.iter().for_each(|(file, counts)| say(format_args!("{file:36}{}", counts.line())));
    classes.iter().for_each(|(class, counts)| say(format_args!("class {:30}{}", class.letter(), counts.line())));
}

/// `{file: {test: {class, end, why}}}`.
pub fn json(results: &[Tested], path: &Path) -> Result<(), String> {
    let mut files: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for Tested { file, test, class, end } in results {
        let result = json!({ "class": class.letter(), "end": end.name(), "why": end.failure() });
        files.entry(file).or_default().insert(test.clone(), result);
    }
    let text = serde_json::to_vec_pretty(&files).map_err(|e| e.to_string())?;
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
