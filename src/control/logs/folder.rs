//! The folder of the log store, and the names in it.
//!
//! Journals are numbered as they are begun. A sealed file is named after the journals whose records
//! it holds, `<first>-<last>.seg`: so a name alone tells which files are superseded. A journal whose
//! number lies within a sealed file's range is sealed there; a sealed file whose range lies within
//! another's was merged into that. Both may still be there after a crash, and count as gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of the log store.
#[derive(Debug, Clone)]
pub struct LogDir {
    path: PathBuf,
}

/// A file's place in its sequence, and its path.
pub type Numbered = (u64, PathBuf);

/// A sealed file by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedName {
    /// The first journal whose records it holds.
    pub first: u64,
    /// The last one. A number in between is of a journal that it holds, or of none.
    pub last: u64,
    /// The file.
    pub path: PathBuf,
}

impl SealedName {
    /// Says whether the records of journal `number` are in it.
    pub fn covers(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// The files with records.
#[derive(Debug, Default)]
pub struct RecordFiles {
    /// Sealed files, oldest first.
    pub sealed: Vec<SealedName>,
    /// Journals that are not sealed, oldest first.
    pub journals: Vec<Numbered>,
    /// Files whose records are in others of them too.
    pub superseded: Vec<PathBuf>,
}

impl RecordFiles {
    /// The number after the greatest of a journal that there is or was.
    pub fn next_journal(&self) -> u64 {
        let sealed = self.sealed.iter().map(|sealed| sealed.last);
        let journals = self.journals.iter().map(|(number, _)| *number);
        sealed
            .chain(journals)
            .max()
            .map_or(1, |last| last.saturating_add(1))
    }
}

impl LogDir {
    /// The log store of the data folder `data_dir`.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("log"),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of journal `number`.
    pub fn journal(&self, number: u64) -> PathBuf {
        self.path.join(format!("journal-{number}.seg"))
    }

    /// The path of the sealed file of journals `first` to `last`, of the day of `unix_micros`
    /// (UTC).
    pub fn sealed_file(&self, first: u64, last: u64, unix_micros: u64) -> PathBuf {
        self.path
            .join(date(unix_micros))
            .join(format!("{first}-{last}.seg"))
    }

    /// The path of body file `number`, started on the day of `unix_micros` (UTC).
    pub fn body_file(&self, number: u64, unix_micros: u64) -> PathBuf {
        self.path
            .join(date(unix_micros))
            .join(format!("{number}.body"))
    }

    /// The journals, oldest first, sealed ones included. A folder that is not there has none.
    pub fn journals(&self) -> io::Result<Vec<Numbered>> {
        self.numbered("journal-")
    }

    fn numbered(&self, prefix: &str) -> io::Result<Vec<Numbered>> {
        let mut found = Vec::new();
        for (name, path) in names(&self.path)? {
            let number = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(".seg"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                found.push((number, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The path of deletion file `number`.
    pub fn deletion_file(&self, number: u64) -> PathBuf {
        self.path.join(format!("deleted-{number}.seg"))
    }

    /// The deletion files, oldest first.
    pub fn deletion_files(&self) -> io::Result<Vec<Numbered>> {
        self.numbered("deleted-")
    }

    /// The body files of all days, oldest first.
    pub fn body_files(&self) -> io::Result<Vec<Numbered>> {
        let mut found = Vec::new();
        for day in self.days()? {
            for (name, path) in names(&day)? {
                let number = name.strip_suffix(".body");
                if let Some(number) = number.and_then(|number| number.parse().ok()) {
                    found.push((number, path));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The files with records, as they stand now.
    ///
    /// Journals are listed before sealed files: one that is sealed in between is in both lists, and
    /// found superseded, never in none.
    pub fn record_files(&self) -> io::Result<RecordFiles> {
        let journals = self.journals()?;
        let mut sealed = Vec::new();
        for day in self.days()? {
            for (name, path) in names(&day)? {
                if let Some((first, last)) = sealed_range(&name) {
                    sealed.push(SealedName { first, last, path });
                }
            }
        }
        Ok(standing(journals, sealed))
    }

    /// The folders of the days, oldest first.
    pub fn days(&self) -> io::Result<Vec<PathBuf>> {
        let found = names(&self.path)?.into_iter();
        let mut days: Vec<PathBuf> = found
            .filter(|(_, path)| path.is_dir())
            .map(|(_, path)| path)
            .collect();
        days.sort_unstable();
        Ok(days)
    }
}

/// Sorts out what is superseded.
fn standing(journals: Vec<Numbered>, mut sealed: Vec<SealedName>) -> RecordFiles {
    // Of two that begin alike the longer comes first, and holds the other.
    sealed.sort_unstable_by(|a, b| (a.first, b.last, &a.path).cmp(&(b.first, a.last, &b.path)));
    let mut files = RecordFiles::default();
    for file in sealed {
        match files.sealed.last() {
            Some(before) if before.covers(file.last) => files.superseded.push(file.path),
            Some(_) | None => files.sealed.push(file),
        }
    }
    for (number, path) in journals {
        let after = files.sealed.partition_point(|file| file.first <= number);
        let holder = after.checked_sub(1).and_then(|at| files.sealed.get(at));
        if holder.is_some_and(|file| file.covers(number)) {
            files.superseded.push(path);
        } else {
            files.journals.push((number, path));
        }
    }
    files
}

/// The range in the name of a sealed file.
fn sealed_range(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".seg")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Names and paths in a folder; none if the folder is not there.
fn names(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// The day of a time, UTC: `2026-11-21`.
fn date(unix_micros: u64) -> String {
    i64::try_from(unix_micros)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
        .strftime("%Y-%m-%d")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::logs::{
        frame::Kind,
        segment::{Appender, write_at},
    };

    #[test]
    fn files_are_listed_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        assert!(log.journals().unwrap().is_empty() && log.body_files().unwrap().is_empty());
        for number in [10, 9, 2] {
            Appender::create(&log.journal(number), Kind::Rows, 0, write_at()).unwrap();
            let day = number * 86_400_000_000;
            Appender::create(&log.body_file(number, day), Kind::Bodies, 0, write_at()).unwrap();
        }
        fs::write(log.path().join("journal-x.seg"), b"").unwrap();
        let numbers = |files: Vec<Numbered>| files.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(numbers(log.journals().unwrap()), [2, 9, 10]);
        assert_eq!(numbers(log.body_files().unwrap()), [2, 9, 10]);
        assert!(log.body_file(2, 0).ends_with("log/1970-01-01/2.body"));
    }

    #[test]
    fn names_tell_what_is_superseded() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::of(dir.path());
        assert_eq!(log.record_files().unwrap().next_journal(), 1);
        let day = log.path().join("2026-11-21");
        fs::create_dir_all(&day).unwrap();
        for name in ["1-4", "2-2", "5-5", "9-9", "4-1", "x-1", "1"] {
            fs::write(day.join(format!("{name}.seg")), b"").unwrap();
        }
        for number in [3, 6, 9, 10] {
            fs::write(log.journal(number), b"").unwrap();
        }
        let files = log.record_files().unwrap();
        let ranges: Vec<_> = files.sealed.iter().map(|f| (f.first, f.last)).collect();
        assert_eq!(ranges, [(1, 4), (5, 5), (9, 9)]);
        let journals: Vec<_> = files.journals.iter().map(|(number, _)| *number).collect();
        assert_eq!(journals, [6, 10]);
        let mut gone = files.superseded.clone();
        gone.sort_unstable();
        let mut expected = [day.join("2-2.seg"), log.journal(3), log.journal(9)];
        expected.sort_unstable();
        assert_eq!(gone, expected);
        assert_eq!(files.next_journal(), 11);
    }
}
