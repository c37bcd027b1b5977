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

    /// From tokio 1.`minor` on.
    pub const fn from(minor: u64) -> Versions {
        Versions { from: Some(minor), to: None }
    }

    /// Before tokio 1.`minor`.
    pub const fn before(minor: u64) -> Versions {
        Versions { from: None, to: Some(minor) }
    }

    pub fn hold(&self, minor: u64) -> bool {
        self.from.is_none_or(|from| from <= minor) && self.to.is_none_or(|to| minor < to)
    }
}

/// The text of `file` with its hunks applied, in the order of the table. A later hunk sees what an earlier one wrote.
pub fn apply<'a>(text: &str, hunks: impl Iterator<Item = &'a Hunk>) -> Result<String, String> {
    let mut text = text.to_owned();
    for hunk in hunks {
        let count = text.matches(hunk.anchor).count();
        if count != 1 {
            let found = if count == 0 { "is not there".to_owned() } else { format!("stands there {count} times") };
            return Err(format!("`{}` does not fit: its anchor in src/{} {found}", hunk.name, hunk.file));
        }
        text = text.replacen(hunk.anchor, hunk.replace, 1);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hunk(anchor: &'static str, replace: &'static str) -> Hunk {
        Hunk { name: "a turn", file: "driver.rs", anchor, replace, versions: Versions::ALL }
    }

    #[test]
    fn an_anchor_matches_exactly_once_or_is_refused_by_name_and_file() {
        let applied = |h: Hunk| apply("park(); unpark(); turn();", [h].iter());
        assert_eq!(applied(hunk("turn()", "sim()")), Ok("park(); unpark(); sim();".into()));
        let missing = applied(hunk("epoll()", "")).expect_err("there is none");
        assert_eq!(missing, "`a turn` does not fit: its anchor in src/driver.rs is not there");
        let twice = applied(hunk("park()", "")).expect_err("two of them");
        assert_eq!(twice, "`a turn` does not fit: its anchor in src/driver.rs stands there 2 times");
    }

    #[test]
    fn a_later_hunk_sees_what_an_earlier_one_wrote() {
        assert_eq!(apply("a", [hunk("a", "b"), hunk("b", "c")].iter()), Ok("c".into()));
    }

    #[test]
    fn versions_are_half_open() {
        assert!(Versions::ALL.hold(54));
        assert!(Versions::from(44).hold(44) && !Versions::from(44).hold(43));
        assert!(Versions::before(44).hold(43) && !Versions::before(44).hold(44));
    }
}
