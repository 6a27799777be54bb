//! Collects what is wrong with a configuration, and what is worth a warning.

use std::collections::BTreeSet;
use std::ops::Range;

use super::limit;
use super::problem::{Problem, Problems, Source};
use super::{Config, Loaded};

/// What is wrong so far, and what is worth a warning.
pub(super) struct Report<'a> {
    source: Source<'a>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Paths of keys that were taken out for their form: they are not missing.
    taken_out: BTreeSet<String>,
    /// Problems over [`limit::PROBLEMS_MAX`], only counted.
    problems_left_out: usize,
    /// Likewise warnings.
    warnings_left_out: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            problems: Vec::new(),
            warnings: Vec::new(),
            taken_out: BTreeSet::new(),
            problems_left_out: 0,
            warnings_left_out: 0,
        }
    }

    /// The text at these bytes of the file.
    pub(super) fn text(&self, span: Range<usize>) -> &'a str {
        self.source.text.get(span).unwrap_or_default()
    }

    /// Something wrong at these bytes of the file.
    pub(super) fn problem(&mut self, span: Range<usize>, message: String, help: String) {
        if self.problems.len() >= limit::PROBLEMS_MAX {
            self.problems_left_out += 1;
            return;
        }
        self.problems.push(self.source.problem(span, message, help));
    }

    /// A key or value whose form is wrong, so that it is not in the mirror.
    pub(super) fn form_problem(&mut self, span: Range<usize>, message: String, help: String) {
        let problem = self.source.problem(span, message, help);
        self.taken_out.insert(problem.path.clone());
        self.problems.push(problem);
    }

    /// Says whether the key `name` of the table at `span` is there after all, in the wrong form.
    pub(super) fn was_taken_out(&self, span: &Range<usize>, name: &str) -> bool {
        !self.taken_out.is_empty()
            && self
                .taken_out
                .contains(&format!("{}.{name}", self.source.path(span)))
    }

    /// Something wrong with keys that may have come from anywhere.
    pub(super) fn general(&mut self, message: String, help: String) {
        self.elsewhere(self.source.name, message, help);
    }

    /// Something wrong with a variable or flag.
    pub(super) fn elsewhere(&mut self, origin: &str, message: String, help: String) {
        self.problems
            .push(Problem::elsewhere(origin, message, help));
    }

    /// Something worth knowing at these bytes of the file.
    pub(super) fn warn(&mut self, span: Range<usize>, message: String, help: String) {
        if self.warnings.len() >= limit::PROBLEMS_MAX {
            self.warnings_left_out += 1;
            return;
        }
        self.warnings.push(self.source.problem(span, message, help));
    }

    /// Something worth knowing about a variable or flag.
    pub(super) fn warn_elsewhere(&mut self, origin: &str, message: String, help: String) {
        self.warnings
            .push(Problem::elsewhere(origin, message, help));
    }

    /// The configuration, if nothing is wrong.
    pub(super) fn finish(mut self, config: Config) -> Result<Loaded, Problems> {
        // What concerns the file comes first, in its order.
        let place = |problem: &Problem| (problem.line.is_none(), problem.line, problem.column);
        self.problems.sort_by_key(place);
        self.warnings.sort_by_key(place);
        for (list, left_out) in [
            (&mut self.problems, self.problems_left_out),
            (&mut self.warnings, self.warnings_left_out),
        ] {
            if left_out > 0 {
                let message = format!("and {left_out} more");
                list.push(Problem::elsewhere(self.source.name, message, String::new()));
            }
        }
        if self.problems.is_empty() {
            return Ok(Loaded {
                config,
                warnings: self.warnings,
            });
        }
        Err(Problems(self.problems))
    }
}
