//! The findings as text: the level, what was looked at, what was seen, and below it the mend. Pure.

use std::fmt::Write as _;

use super::{Level, Report};

/// The report for a person, ending in a newline.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{level:<8} {:<12} {}", finding.check, finding.text);
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "{:<21} -> {mend}", "");
        }
    }
    let count = |level| report.findings.iter().filter(|found| found.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let _ = match (problems, warnings) {
        (0, 0) => writeln!(text, "\nall well"),
        _ => writeln!(text, "\n{problems} problems, {warnings} warnings"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::super::Findings;
    use super::*;

    #[test]
    fn a_line_each_with_the_mend_below() {
        let mut found = Findings::default();
        found.ok("config", "reads");
        found.problem("key", "is open to others", "chmod 600 device.key");
        let expected = "ok       config       reads\n\
                        PROBLEM  key          is open to others\n\
                        \x20                     -> chmod 600 device.key\n\n\
                        1 problems, 0 warnings\n";
        assert_eq!(render(&found.report()), expected);
        assert_eq!(render(&Findings::default().report()), "\nall well\n");
    }
}
