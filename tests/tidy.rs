//! Reads the sources and refuses what breaks the layout: who may name whom, where the runtime and
//! `unsafe` may stand, how a module opens. Plain text, no parser: comments and literals are blanked
//! first, so that only code counts.
#![expect(
    clippy::unwrap_used,
    reason = "a source that cannot be read fails the test"
)]

use std::{fs, path::Path};

/// Module → modules it may name; the table of the layout, row by row.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("http", &[]),
    ("sys", &[]),
    ("provider", &["domain", "http"]),
    ("config", &["domain", "provider"]),
    ("snapshot", &["domain", "provider", "config"]),
    ("handoff", &["domain", "snapshot", "sys"]),
    (
        "shard",
        &["domain", "http", "provider", "snapshot", "handoff", "sys"],
    ),
    (
        "control",
        &[
            "domain", "http", "provider", "config", "snapshot", "handoff", "sys",
        ],
    ),
    (
        "server",
        &[
            "domain", "http", "sys", "provider", "config", "snapshot", "handoff", "shard",
            "control",
        ],
    ),
    (
        "cli",
        &[
            "domain", "http", "sys", "provider", "config", "snapshot", "handoff", "control",
            "server",
        ],
    ),
    ("main", &["cli", "config", "server"]),
];

/// Where the runtime may be named: the data plane, what starts it, and the two files whose job
/// needs its traits.
const RUNTIME_IN: &[&str] = &["shard", "server", "sys/buffer.rs", "control/api/listen.rs"];

/// The one file that spells metric names.
const METRIC_NAMES: &str = "control/metrics/names.rs";

/// What is read besides `src`, from the top of the repository.
const OTHER_TREES: &[&str] = &["benches", "examples", "loadtest", "tests", "tuning", ".ci"];

/// Left-overs; written apart, so that this file does not find itself.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Places of one machine, and hosts that packages come from.
const PLACES: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("registry.npm", "js"),
    concat!("pythonhos", "ted"),
    concat!("pypi", ".org"),
];

#[test]
fn modules_name_only_what_the_import_table_allows() {
    check(&sources("src"), |source, report| {
        let zone = source.zone();
        // Tests set a stage, for which they may name whatever stands on it.
        if zone == "lib" || source.path.ends_with("/tests.rs") {
            return;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == zone) else {
            return report(
                1,
                format!("module `{zone}` is in no zone: add it to the import table"),
            );
        };
        for (at, named) in source.modules_named() {
            if named != zone && !allowed.contains(&named.as_str()) {
                report(
                    line_of(&source.code, at),
                    format!("`{zone}` may not name `{named}`"),
                );
            }
        }
    });
}

#[test]
fn the_runtime_is_named_by_the_data_plane_only() {
    check(&sources("src"), |source, report| {
        if !RUNTIME_IN
            .iter()
            .any(|place| source.path == *place || source.zone() == *place)
        {
            for (at, word) in words(&source.code).filter(|(_, word)| word.starts_with("monoio")) {
                report(
                    line_of(&source.code, at),
                    format!("`{word}` belongs to {RUNTIME_IN:?}"),
                );
            }
        }
    });
}

#[test]
fn unsafe_code_lives_in_sys() {
    check(&sources("src"), |source, report| {
        for (at, _) in
            words(&source.code).filter(|(_, word)| *word == "unsafe" && source.zone() != "sys")
        {
            report(line_of(&source.code, at), "`unsafe` belongs to sys/".into());
        }
    });
}

#[test]
fn every_module_opens_with_its_purpose() {
    check(&sources("src"), |source, report| {
        // `tests.rs` holds the tests of the module beside it, which says its purpose.
        if !source.text.starts_with("//! ") && !source.path.ends_with("tests.rs") {
            report(1, "open with `//!` and what the module is for".into());
        }
        if source.path.ends_with("mod.rs") {
            report(
                1,
                "name the file after its module, with a folder beside it".into(),
            );
        }
    });
}

#[test]
fn metric_names_are_spelled_in_one_file() {
    let sources = sources("src");
    if !sources.iter().any(|source| source.path == METRIC_NAMES) {
        return; // no metrics yet, so none to spell
    }
    check(&sources, |source, report| {
        if source.path == METRIC_NAMES || source.path.ends_with("tests.rs") {
            return;
        }
        let text = source
            .literals
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap();
        for (at, word) in words(text).filter(|(_, word)| word.starts_with("tidegate_")) {
            report(
                line_of(text, at),
                format!("metric `{word}` belongs to {METRIC_NAMES}"),
            );
        }
    });
}

#[test]
fn nothing_is_left_over() {
    check(&all_sources(), |source, report| {
        for leftover in LEFTOVERS {
            for (at, _) in source
                .text
                .match_indices(leftover)
                .filter(|(at, _)| whole(&source.text, *at, leftover))
            {
                report(line_of(&source.text, at), format!("left over: {leftover}"));
            }
        }
    });
}

#[test]
fn no_text_names_a_machine_or_a_registry_host() {
    check(&all_sources(), |source, report| {
        for place in PLACES {
            for (at, _) in source.text.match_indices(place) {
                report(
                    line_of(&source.text, at),
                    format!("`{place}` is a place outside the repository"),
                );
            }
        }
    });
}

/// One file: as it is, without comments, and without comments and literals. All three have the
/// same length, so that a position means the same in each.
struct Source {
    tree: String,
    path: String,
    text: String,
    literals: String,
    code: String,
}

impl Source {
    /// The top module that the file belongs to.
    fn zone(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Top modules that the code names, as `crate::a`, `crate::{a, b::c}`, `tidegate::a` (in
    /// `main.rs`), or by as many `super::` as lead to the root.
    fn modules_named(&self) -> Vec<(usize, String)> {
        let depth = self.path.matches('/').count() + 1;
        let above = "super::".repeat(depth);
        let roots = if self.zone() == "main" {
            vec!["crate::", "tidegate::"]
        } else {
            vec!["crate::", above.as_str()]
        };
        let mut named = Vec::new();
        for root in roots {
            for (at, _) in self.code.match_indices(root) {
                let rest = &self.code[at + root.len()..];
                // `$crate::`, `pub(in crate::…)` and longer words that end in the root's name.
                if at > 0 && self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let Some(group) = rest.strip_prefix('{') else {
                    named.extend(
                        words(rest)
                            .next()
                            .filter(|(gap, _)| *gap == 0)
                            .map(|(_, word)| (at, word.to_owned())),
                    );
                    continue;
                };
                let (mut nesting, mut first) = (0, true);
                for (offset, char) in group.char_indices() {
                    match char {
                        '{' => nesting += 1,
                        '}' if nesting == 0 => break,
                        '}' => nesting -= 1,
                        ',' => first = nesting == 0,
                        _ if char.is_whitespace() || !first || nesting > 0 => {}
                        _ => {
                            first = false;
                            let word = words(&group[offset..]).next().map(|(_, word)| word);
                            let place = at + root.len() + 1 + offset;
                            named.extend(word.map(|word| (place, word.to_owned())));
                        }
                    }
                }
            }
        }
        named.retain(|(_, name)| MAY_NAME.iter().any(|(module, _)| module == name));
        named
    }
}

/// Runs `rule` over `sources` and fails with every place it reports, one a line.
#[track_caller]
fn check(sources: &[Source], rule: impl Fn(&Source, &mut dyn FnMut(usize, String))) {
    let mut found = Vec::new();
    for source in sources {
        rule(source, &mut |line, what| {
            found.push(format!("{}/{}:{line}: {what}", source.tree, source.path));
        });
    }
    found.sort();
    assert!(
        found.is_empty(),
        "{} to put right:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

/// The Rust sources of `src`, at least one.
fn sources(tree: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(
        tree,
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(tree),
        "",
        &mut found,
    );
    found.retain(|source| is_rust(&source.path));
    assert!(!found.is_empty(), "no sources in {tree}");
    found
}

/// Every text that people write: all trees, and the small files at the top.
fn all_sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = sources("src");
    for tree in OTHER_TREES.iter().filter(|tree| top.join(tree).is_dir()) {
        collect(tree, &top.join(tree), "", &mut found);
    }
    for entry in fs::read_dir(top)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_file())
    {
        let name = entry.file_name().into_string().unwrap();
        // The lock file's own format names the registry.
        if name != "Cargo.lock" && name != ".git" {
            found.extend(read(".", name, &entry.path()));
        }
    }
    found
}

fn collect(tree: &str, folder: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        // What tests install, build or find by fuzzing is nobody's writing.
        let foreign = [
            ".cache",
            "node_modules",
            "__pycache__",
            "target",
            "corpus",
            "artifacts",
        ];
        if kind.is_dir() && !foreign.contains(&name.as_str()) {
            collect(tree, &entry.path(), &format!("{prefix}{name}/"), found);
        } else if kind.is_file() {
            found.extend(read(tree, format!("{prefix}{name}"), &entry.path()));
        }
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|ending| ending == "rs")
}

/// Reads one file; `None` if it is no text.
fn read(tree: &str, path: String, file: &Path) -> Option<Source> {
    let text = fs::read_to_string(file).ok()?;
    let (literals, code) = if is_rust(&path) {
        blank(&text)
    } else {
        Default::default()
    };
    Some(Source {
        tree: tree.to_owned(),
        path,
        text,
        literals,
        code,
    })
}

/// Blanks comments; and, in the second text, string and character literals too.
fn blank(text: &str) -> (String, String) {
    let (mut literals, mut code) = (text.as_bytes().to_vec(), text.as_bytes().to_vec());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let hashes = rest
            .strip_prefix('r')
            .map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
        let after_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !text[..at].ends_with('b');
        let raw = !after_word && rest.starts_with('r') && rest[1 + hashes..].starts_with('"');
        let comment = rest.starts_with("//") || rest.starts_with("/*");
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if raw {
            let open = hashes + 2;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..]
                .find(&close)
                .map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with("'\\")
            || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'')
        {
            quoted(rest, '\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for place in (at..at + length).filter(|place| text.as_bytes()[*place] != b'\n') {
            code[place] = b' ';
            if comment {
                literals[place] = b' ';
            }
        }
        at += length;
    }
    (
        String::from_utf8(literals).unwrap(),
        String::from_utf8(code).unwrap(),
    )
}

/// Length of the literal that `text` opens with.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Identifiers with their positions.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !inside(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Says whether `word` at `at` stands alone.
fn whole(text: &str, at: usize, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
}

/// Number of the line that `at` is in.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn blanking_keeps_positions_and_hides_what_is_no_code() {
    let text = "a \"// x\" b // crate::c\nr#\"\"d\"# 'e' 'f: '\\'' /* g */ \u{fc} \"\u{fc}\" h";
    let (literals, code) = blank(text);
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["a", "b", "'f:", "\u{fc}", "h"]
    );
    assert!(literals.contains("// x") && !literals.contains("crate::c"));
    assert_eq!((literals.len(), code.len()), (text.len(), text.len()));
}

#[test]
fn groups_and_supers_are_seen_through() {
    let named = |path: &str, text: &str| -> Vec<String> {
        let source = Source {
            tree: "src".into(),
            path: path.into(),
            text: text.into(),
            literals: String::new(),
            code: blank(text).1,
        };
        source
            .modules_named()
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    };
    assert_eq!(
        named(
            "shard/a.rs",
            "use crate::{domain::{id, x::http}, config::B};"
        ),
        ["domain", "config"]
    );
    assert_eq!(
        named("shard/a.rs", "super::super::control::x(); super::cli::y();"),
        ["control"]
    );
    assert_eq!(
        named("shard.rs", "crate::http::Head // crate::cli"),
        ["http"]
    );
    assert_eq!(
        named("main.rs", "use tidegate::shard; // tidegate::cli"),
        ["shard"]
    );
}
