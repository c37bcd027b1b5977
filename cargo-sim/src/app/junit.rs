//! The report that build servers read.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use std::io;
use std::time::Duration;

/// One test.
pub struct Case {
    pub krate: String,
    pub name: String,
    pub took: Duration,
    /// Why, once for each failing seed; empty if it passed.
    pub failures: Vec<String>,
}

/// Most failures of a test that are listed.
const MOST_FAILURES: usize = 20;

fn time(took: Duration) -> String {
    format!("{}.{:03}", took.as_secs(), took.subsec_millis())
}

/// The report as XML: one suite for each crate, in the order in which they ran.
pub fn junit(cases: &[Case]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut crates: Vec<&str> = Vec::new();
    for case in cases {
        if !crates.contains(&case.krate.as_str()) {
            crates.push(&case.krate);
        }
    }
    writer.create_element("testsuites").write_inner_content(|writer| {
        for krate in crates {
            let of: Vec<&Case> = cases.iter().filter(|c| c.krate == krate).collect();
            let failed = of.iter().filter(|c| !c.failures.is_empty()).count().to_string();
            let count = of.len().to_string();
            let took = time(of.iter().map(|c| c.took).sum());
            let suite = writer.create_element("testsuite").with_attributes([
                ("name", krate),
                ("tests", count.as_str()),
                ("failures", failed.as_str()),
                ("time", took.as_str()),
            ]);
            suite.write_inner_content(|writer| of.iter().try_for_each(|case| write_case(writer, case)))?;
        }
        Ok(())
    })?;
    let mut text = writer.into_inner();
    text.push(b'\n');
    Ok(text)
}

fn write_case(writer: &mut Writer<Vec<u8>>, case: &Case) -> io::Result<()> {
    let took = time(case.took);
    let element = writer.create_element("testcase").with_attributes([
        ("classname", case.krate.as_str()),
        ("name", case.name.as_str()),
        ("time", took.as_str()),
    ]);
    if case.failures.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|writer| {
        for failure in case.failures.iter().take(MOST_FAILURES) {
            let text = clean(failure);
            let first = text.lines().next().unwrap_or_default();
            writer
                .create_element("failure")
                .with_attribute(("message", first))
                .write_text_content(BytesText::new(&text))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Without the characters that XML 1.0 cannot hold (section 2.2).
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_and_escapes() {
        let case = |name: &str, failures: &[&str]| Case {
            krate: "kv".into(),
            name: name.into(),
            took: Duration::from_millis(1500),
            failures: failures.iter().map(|f| f.to_string()).collect(),
        };
        let text =
            junit(&[case("a", &[]), case("b", &["seed 0x3: 1 < 2 & \u{1b}[0m\nreplay"])]).expect("it is written");
        let text = String::from_utf8(text).expect("it is UTF-8");
        for part in [
            r#"<testsuite name="kv" tests="2" failures="1" time="3.000">"#,
            r#"<testcase classname="kv" name="a" time="1.500"/>"#,
            r#"<failure message="seed 0x3: 1 &lt; 2 &amp; [0m">seed 0x3: 1 &lt; 2 &amp; [0m"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
