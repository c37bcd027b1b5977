//! What people read. A reader that is gone (`| head`) is no reason to stop: the runs go on, and the exit status still says
//! how they went. So nothing here fails, and nothing else in this program prints.

use std::fmt::Display;
use std::io::Write;

/// A line on standard output.
pub fn say(text: impl Display) {
    line(&mut std::io::stdout().lock(), &text);
}

/// A line on standard error, about this program itself.
pub fn warn(text: impl Display) {
    line(&mut std::io::stderr().lock(), &format_args!("cargo sim: {text}"));
}

fn line(to: &mut dyn Write, text: &dyn Display) {
    // In one piece, or lines of several processes mix.
    let _reader_gone = to.write_all(format!("{text}\n").as_bytes()).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        let (reader, mut writer) = std::io::pipe().expect("pipes can be made");
        drop(reader);
        assert_eq!(writer.write(b"x").map_err(|e| e.kind()), Err(std::io::ErrorKind::BrokenPipe));
        line(&mut writer, &"nobody reads this");
    }
}
