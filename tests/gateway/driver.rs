//! Which driver runs, and what is said when the better one is refused.

use crate::support::{
    client::{chat, post},
    server::{OPEN, Server, Setup},
    upstream::mock,
    wait::wait_until,
};

/// Starts a command without `io_uring`, as containers do.
const WITHOUT_URING: &[&str] = &[
    "python3",
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/support/without_uring.py"
    ),
];

/// It serves, and says that it runs on `driver`.
#[track_caller]
fn check(server: &Server, driver: &str) {
    wait_until("the greeting", || server.said().contains("keys"));
    let said = server.said();
    let line = said.lines().find(|line| line.trim().starts_with("driver"));
    assert!(line.is_some_and(|line| line.contains(driver)), "{said}");
    let figures = server.figures();
    assert!(figures.contains(driver), "{figures}");
    let answer = server.ask(&post(&format!("{OPEN}/openai/chat/completions"), &chat("")));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_driver_that_was_asked_for_runs() {
    let mock = mock();
    let asked = std::env::var("TIDEGATE_DRIVER").unwrap_or_default();
    let server = Setup::over(mock.addr()).start();
    match &*asked {
        "uring" => check(&server, "io_uring"),
        "epoll" => check(&server, "epoll"),
        _ => {}
    }
    check(
        &Setup::over(mock.addr())
            .env("TIDEGATE_DRIVER", "epoll")
            .start(),
        "epoll",
    );
}

#[test]
fn a_refused_ring_means_epoll_and_a_word_about_it() {
    let mock = mock();
    let server = Setup::over(mock.addr())
        .wrapper(WITHOUT_URING)
        .env("TIDEGATE_DRIVER", "auto")
        .start();
    check(&server, "epoll");
    let said = server.said();
    assert!(said.contains("refused: Operation not permitted"), "{said}");
}

#[test]
fn a_refused_ring_that_was_demanded_is_an_error() {
    let output = Setup::new()
        .wrapper(WITHOUT_URING)
        .env("TIDEGATE_DRIVER", "uring")
        .fail();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Operation not permitted") && said.contains("doctor"),
        "{said}"
    );
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn a_driver_that_is_none_is_an_error() {
    let output = Setup::new().env("TIDEGATE_DRIVER", "kqueue").fail();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("TIDEGATE_DRIVER"), "{said}");
}
