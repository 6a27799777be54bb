use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::snapshot::KeyTable;

const NOW: UnixSeconds = 1_000_000;

fn new(name: &str) -> NewKey<'_> {
    NewKey {
        name,
        permissions: Permissions::RUN,
        expires_at: None,
    }
}

fn table(store: &KeyStore, now: UnixSeconds) -> KeyTable {
    let mut table = KeyTable::new([1; 32]);
    for (hash, key) in store.load(now).unwrap().keys {
        table.insert_stored(hash, key);
    }
    table
}

#[test]
fn a_token_that_is_made_is_good_and_its_text_is_kept_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = KeyStore::open(dir.path()).unwrap();
    let permissions = Permissions::RUN.with(Permissions::EDIT);
    let (key, token) = store
        .create(
            &NewKey {
                permissions,
                ..new("app")
            },
            NOW,
        )
        .unwrap();
    let text = token.expose();
    assert!(
        text.starts_with(TOKEN_PREFIX) && text.len() == 3 + 43,
        "{text}"
    );
    assert_eq!(key.last4, text[text.len() - 4..]);
    assert_eq!((key.created_at, key.state(NOW)), (NOW, KeyState::Active));
    let table = table(&store, NOW);
    let found = table.find(text.as_bytes()).unwrap();
    assert_eq!(
        (&*found.name, found.run, found.read, found.edit),
        ("app", true, false, true)
    );
    drop(store);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let inside = bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(!inside, "the token stands in {}", path.display());
    }
    let mode = fs::metadata(dir.path().join(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn revoked_and_expired_tokens_are_not_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = KeyStore::open(dir.path()).unwrap();
    store.create(&new("stays"), NOW).unwrap();
    store.create(&new("goes"), NOW).unwrap();
    let expires_at = Some(NOW + 10);
    store
        .create(
            &NewKey {
                expires_at,
                ..new("ends")
            },
            NOW,
        )
        .unwrap();
    store.revoke("goes", NOW + 1).unwrap();
    let names = |now| -> Vec<String> {
        let live = store.load(now).unwrap();
        live.keys
            .into_iter()
            .map(|(_, key)| key.name.into())
            .collect()
    };
    assert_eq!(names(NOW + 9), ["stays", "ends"]);
    assert_eq!(names(NOW + 10), ["stays"]);
    assert_eq!(store.load(NOW + 9).unwrap().seen.next_expiry, expires_at);
    assert_eq!(store.load(NOW + 10).unwrap().seen.next_expiry, None);
    let states: Vec<_> = store
        .list()
        .unwrap()
        .iter()
        .map(|key| key.state(NOW + 10))
        .collect();
    assert_eq!(
        states,
        [KeyState::Expired, KeyState::Revoked, KeyState::Active]
    );
}

#[test]
fn rotation_replaces_the_text_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = KeyStore::open(dir.path()).unwrap();
    let (_, old) = store.create(&new("app"), NOW).unwrap();
    let (key, fresh) = store.rotate("app", NOW + 5).unwrap();
    assert_eq!(
        (key.created_at, key.permissions),
        (NOW + 5, Permissions::RUN)
    );
    let table = table(&store, NOW + 5);
    assert!(table.find(old.expose().as_bytes()).is_none());
    assert!(table.find(fresh.expose().as_bytes()).is_some());
}

#[test]
fn what_cannot_be_done_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = KeyStore::open(dir.path()).unwrap();
    store.create(&new("app"), NOW).unwrap();
    let error = |result: Result<_, KeyError>| -> String {
        match result {
            Ok(()) => panic!("it was done"),
            Err(error) => error.to_string(),
        }
    };
    let mut create = |key: &NewKey<'_>| error(store.create(key, NOW).map(|_| ()));
    assert!(create(&new("app")).starts_with("there is a token called 'app' already"));
    for name in ["", " a", "a\nb", "api", &"x".repeat(129)] {
        assert!(
            create(&new(name)).starts_with("this cannot be the name"),
            "{name:?}"
        );
    }
    let none = NewKey {
        permissions: Permissions::NONE,
        ..new("b")
    };
    assert!(create(&none).contains("can do nothing"));
    let late = NewKey {
        expires_at: Some(NOW),
        ..new("b")
    };
    assert!(create(&late).contains("expired already"));
    assert!(error(store.revoke("b", NOW).map(|_| ())).starts_with("there is no token called 'b'"));
    store.revoke("app", NOW).unwrap();
    for result in [
        store.revoke("app", NOW).map(|_| ()),
        store.rotate("app", NOW).map(|_| ()),
    ] {
        assert!(error(result).contains("was revoked"));
    }
}

#[test]
fn a_server_sees_that_another_process_changed_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = KeyStore::open(dir.path()).unwrap();
    let before = server.revision().unwrap();
    assert_eq!(server.revision().unwrap(), before);
    let mut other = KeyStore::open(dir.path()).unwrap();
    other.create(&new("app"), NOW).unwrap();
    assert_ne!(server.revision().unwrap(), before);
    assert_eq!(server.load(NOW).unwrap().keys.len(), 1);
}

#[test]
fn a_file_that_takes_the_place_of_another_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = KeyStore::open(dir.path()).unwrap();
    fs::rename(dir.path().join(FILE), dir.path().join("away")).unwrap();
    let gone = server.follow().unwrap_err().to_string();
    assert!(
        gone.ends_with("No such file or directory (os error 2)"),
        "{gone}"
    );
    let mut other = KeyStore::open(dir.path()).unwrap();
    other.create(&new("app"), NOW).unwrap();
    server.follow().unwrap();
    assert_eq!(server.load(NOW).unwrap().keys.len(), 1);
}

#[test]
fn a_file_that_is_no_database_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    let text = KeyStore::open(dir.path()).unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "{} is damaged: put back a copy, or move it away and make its tokens anew",
            path.display()
        )
    );
}

#[test]
fn a_damaged_database_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut store = KeyStore::open(dir.path()).unwrap();
    for number in 0..200 {
        store.create(&new(&format!("key-{number}")), NOW).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    for byte in &mut bytes[4096..] {
        *byte ^= 0x55;
    }
    fs::write(&path, bytes).unwrap();
    let text = KeyStore::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains(" is damaged: "), "{text}");
}

#[test]
fn a_newer_layout_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(KeyStore::open(dir.path()).unwrap());
    let path = dir.path().join(FILE);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let text = KeyStore::open(dir.path()).unwrap_err().to_string();
    assert!(
        text.ends_with("was written by a newer tidegate (layout 99); use that one"),
        "{text}"
    );
}
