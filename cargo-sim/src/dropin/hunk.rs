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
    /// Which versions it is for: from the first, up to and without the second.
    pub versions: Versions,
}

/// A range of minor versions of tokio 1: `from..to`, where `None` is open.
#[derive(Clone, Copy)]
pub struct Versions {
    pub from: Option<u64>,
    pub to: Option<u64>,
}

impl Versions {
    /// Every version that is supported.
    pub const ALL: Versions = Versions { from: None, to: None };

    pub fn hold(&self, minor: u64) -> bool {
        self.from.is_none_or(|from| from <= minor) && self.to.is_none_or(|to| minor < to)
    }
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
            let hunk = Hunk { name: "a turn", file: "driver.rs", anchor, replace, versions: Versions::ALL };
            hunk.apply("park(); unpark(); turn();")
        };
        assert_eq!(applied("turn()", "sim()"), Ok("park(); unpark(); sim();".into()));
        let missing = applied("epoll()", "").expect_err("there is none");
        assert_eq!(missing, "`a turn` does not fit: its anchor in src/driver.rs is not there");
        let twice = applied("park()", "").expect_err("two of them");
        assert_eq!(twice, "`a turn` does not fit: its anchor in src/driver.rs stands there 2 times");
    }

    #[test]
    fn versions_are_half_open() {
        assert!(Versions::ALL.hold(54));
        let (from, before) = (Versions { from: Some(44), to: None }, Versions { from: None, to: Some(44) });
        assert!(from.hold(44) && !from.hold(43));
        assert!(before.hold(43) && !before.hold(44));
    }
}
