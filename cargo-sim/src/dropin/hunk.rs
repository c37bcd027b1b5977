//! What a change to tokio's source is, and how it is applied: by an anchor that must match exactly once.
//!
//! Line numbers would fit one version and whole files would freeze it. An anchor is a piece of text as short as being
//! unique allows, so the same table fits many versions, and where it does not, nothing is guessed.

/// One change: `anchor`, found exactly once in `file`, becomes `replace`.
pub struct Hunk {
    /// What refusals call it.
    pub name: &'static str,
    /// Relative to tokio's `src`.
    pub file: &'static str,
    pub anchor: &'static str,
    pub replace: &'static str,
}

impl Hunk {
    /// The text of its file, changed.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(self.anchor).count() {
            1 => Ok(text.replacen(self.anchor, self.replace, 1)),
            0 => Err(format!("`{}` does not fit: its anchor in src/{} is not there", self.name, self.file)),
            n => Err(format!("`{}` does not fit: its anchor in src/{} stands there {n} times", self.name, self.file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_matches_exactly_once_or_is_refused_by_name_and_file() {
        let applied = |anchor, replace| {
            let hunk = Hunk { name: "a turn", file: "driver.rs", anchor, replace };
            hunk.apply("park(); unpark(); turn();")
        };
        assert_eq!(applied("turn()", "sim()"), Ok("park(); unpark(); sim();".into()));
        let missing = applied("epoll()", "").expect_err("there is none");
        assert_eq!(missing, "`a turn` does not fit: its anchor in src/driver.rs is not there");
        let twice = applied("park()", "").expect_err("two of them");
        assert_eq!(twice, "`a turn` does not fit: its anchor in src/driver.rs stands there 2 times");
    }
}
