use super::*;

const WISH: Wish = Wish {
    asked: false,
    shared: false,
    streams: false,
    answer_bytes_max: 1_000,
};

const ANSWER: Candidate<'static> = Candidate {
    status: 200,
    fields: &[],
    framing: ResponseFraming::Chunked,
    whole: true,
    failed: false,
    body_bytes: 10,
    stream: false,
};

#[track_caller]
fn check(answer: &Candidate<'_>, wish: &Wish, kept: Result<(), NotKept>) {
    assert_eq!(may_be_kept(answer, wish), kept, "{answer:?} {wish:?}");
}

/// Checks an answer with one field more, on its head alone too.
#[track_caller]
fn check_field(name: &str, value: &str, wish: &Wish, kept: Result<(), NotKept>) {
    let field = Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
        id: FieldName::of(name.as_bytes()),
    };
    let answer = Candidate {
        fields: &[field],
        ..ANSWER
    };
    check(&answer, wish, kept);
    assert_eq!(head_may_be_kept(&answer, wish), kept);
}

#[test]
fn complete_successes_are_kept() {
    for status in [200, 201, 202, 203, 204, 226] {
        check(&Candidate { status, ..ANSWER }, &WISH, Ok(()));
    }
    for framing in [
        ResponseFraming::None,
        ResponseFraming::Length(1_000),
        ResponseFraming::Chunked,
    ] {
        check(&Candidate { framing, ..ANSWER }, &WISH, Ok(()));
    }
    let body_bytes = 1_000;
    check(
        &Candidate {
            body_bytes,
            ..ANSWER
        },
        &WISH,
        Ok(()),
    );
}

#[test]
fn what_is_no_complete_success_is_not() {
    for status in [
        100, 101, 199, 300, 301, 304, 400, 401, 404, 408, 429, 500, 503, 529, 599,
    ] {
        check(
            &Candidate { status, ..ANSWER },
            &WISH,
            Err(NotKept::Status(status)),
        );
    }
    let not = |answer, why| check(&answer, &WISH, Err(why));
    not(
        Candidate {
            status: 206,
            ..ANSWER
        },
        NotKept::Part,
    );
    not(
        Candidate {
            whole: false,
            ..ANSWER
        },
        NotKept::Incomplete,
    );
    let framing = ResponseFraming::Close;
    not(Candidate { framing, ..ANSWER }, NotKept::Incomplete);
    not(
        Candidate {
            failed: true,
            ..ANSWER
        },
        NotKept::Failed,
    );
    not(
        Candidate {
            body_bytes: 1_001,
            ..ANSWER
        },
        NotKept::TooLarge,
    );
    let framing = ResponseFraming::Length(1_001);
    not(Candidate { framing, ..ANSWER }, NotKept::TooLarge);
}

#[test]
fn streams_are_kept_where_the_gateway_says_so() {
    let stream = Candidate {
        stream: true,
        ..ANSWER
    };
    check(&stream, &WISH, Err(NotKept::Stream));
    let streams = Wish {
        streams: true,
        ..WISH
    };
    check(&stream, &streams, Ok(()));
    let cut = Candidate {
        whole: false,
        ..stream
    };
    check(&cut, &streams, Err(NotKept::Incomplete));
}

#[test]
fn fields_decide_as_the_table_says() {
    let asked = Wish {
        asked: true,
        ..WISH
    };
    let shared = Wish {
        shared: true,
        ..WISH
    };
    let both = Wish {
        asked: true,
        shared: true,
        ..WISH
    };
    for wish in [WISH, asked, shared, both] {
        check_field("Set-Cookie", "__cf_bm=1", &wish, Err(NotKept::Cookie));
        check_field("set-cookie", "", &wish, Err(NotKept::Cookie));
        check_field("content-range", "bytes 0-1/9", &wish, Err(NotKept::Part));
        check_field("vary", "*", &wish, Err(NotKept::Varies));
        check_field("Vary", "accept, *", &wish, Err(NotKept::Varies));
        check_field("vary", "x-user", &wish, Err(NotKept::Varies));
        check_field("vary", "User-Agent", &wish, Err(NotKept::Varies));
        for covered in [
            "",
            "Accept-Encoding",
            "Origin, X-Origin, Referer",
            "origin,access-control-request-method, Access-Control-Request-Headers",
            "Authorization",
            "accept, anthropic-version",
        ] {
            check_field("vary", covered, &wish, Ok(()));
        }
        for ignored in [
            "no-cache",
            "max-age=0, must-revalidate",
            "public",
            "no-transform",
            "",
            "x=\"no-store\"",
        ] {
            check_field("cache-control", ignored, &wish, Ok(()));
        }
        check_field("expires", "0", &wish, Ok(()));
        check_field("pragma", "no-cache", &wish, Ok(()));
    }
    check_field("cache-control", "No-Store", &WISH, Err(NotKept::NoStore));
    check_field(
        "cache-control",
        "max-age=0, no-store",
        &shared,
        Err(NotKept::NoStore),
    );
    check_field("cache-control", "no-store", &asked, Ok(()));
    check_field("cache-control", "private", &WISH, Ok(()));
    check_field("cache-control", "private", &shared, Err(NotKept::Private));
    check_field(
        "cache-control",
        "private=\"x-user\"",
        &both,
        Err(NotKept::Private),
    );
    check_field(
        "cache-control",
        "private, no-store",
        &both,
        Err(NotKept::Private),
    );
}

#[test]
fn a_second_field_of_a_name_counts_as_much_as_the_first() {
    let field = |value: &'static str| Field {
        name: b"cache-control",
        value: value.as_bytes(),
        id: FieldName::CacheControl,
    };
    let fields = [field("public"), field("no-store")];
    let answer = Candidate {
        fields: &fields,
        ..ANSWER
    };
    check(&answer, &WISH, Err(NotKept::NoStore));
}

#[test]
fn posts_are_answered_and_gets_that_asked_for_it() {
    let field = |name: &'static str| Field {
        name: name.as_bytes(),
        value: b"x",
        id: FieldName::of(name.as_bytes()),
    };
    let plain = [field("accept"), field("iffy")];
    assert!(may_be_answered(Method::Post, &plain, false));
    assert!(may_be_answered(Method::Post, &[], true));
    assert!(may_be_answered(Method::Get, &plain, true));
    assert!(!may_be_answered(Method::Get, &plain, false));
    for method in [
        Method::Head,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Options,
        Method::Other(b"post"),
    ] {
        assert!(!may_be_answered(method, &plain, true), "{method:?}");
    }
    for name in [
        "range",
        "if-none-match",
        "If-Modified-Since",
        "if-range",
        "upgrade",
        "last-event-id",
    ] {
        assert!(
            !may_be_answered(Method::Post, &[field(name)], true),
            "{name}"
        );
    }
}
