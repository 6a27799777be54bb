//! Header names we know, and the rules that go by name.
//!
//! A name is looked up once, when its head is parsed; afterwards it is a [`FieldName`], one byte
//! wide, and every rule is a comparison of bytes. Names we do not know are [`FieldName::Other`]
//! and travel end to end untouched.

/// Declares [`FieldName`], its texts and the list that the lookup table is built from.
macro_rules! field_names {
    ($($variant:ident = $text:literal,)+) => {
        /// A header name, as far as we know it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FieldName {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
            /// A name without a rule of ours.
            Other,
        }

        impl FieldName {
            /// Every known name, in the order of declaration.
            pub const KNOWN: &[Self] = &[$(Self::$variant,)+];

            /// The name in lower case; empty for [`FieldName::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other => "",
                }
            }
        }
    };
}

field_names! {
    // Framing and routing of a message.
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Expect = "expect",
    Via = "via",
    // Credentials and keys.
    Authorization = "authorization",
    XApiKey = "x-api-key",
    ApiKey = "api-key",
    XGoogApiKey = "x-goog-api-key",
    XiApiKey = "xi-api-key",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    WwwAuthenticate = "www-authenticate",
    CfAccessJwtAssertion = "cf-access-jwt-assertion",
    XAmzSecurityToken = "x-amz-security-token",
    // Content and negotiation.
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    ContentRange = "content-range",
    Range = "range",
    CacheControl = "cache-control",
    Age = "age",
    Etag = "etag",
    Vary = "vary",
    UserAgent = "user-agent",
    Origin = "origin",
    Date = "date",
    Server = "server",
    ServerTiming = "server-timing",
    Location = "location",
    RetryAfter = "retry-after",
    RetryAfterMs = "retry-after-ms",
    LastEventId = "last-event-id",
    StrictTransportSecurity = "strict-transport-security",
    AltSvc = "alt-svc",
    // WebSocket handshake.
    SecWebSocketKey = "sec-websocket-key",
    SecWebSocketVersion = "sec-websocket-version",
    SecWebSocketProtocol = "sec-websocket-protocol",
    SecWebSocketExtensions = "sec-websocket-extensions",
    SecWebSocketAccept = "sec-websocket-accept",
    // Where the caller sits.
    Forwarded = "forwarded",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    XForwardedPort = "x-forwarded-port",
    XForwardedServer = "x-forwarded-server",
    XOriginalForwardedFor = "x-original-forwarded-for",
    XRealIp = "x-real-ip",
    XClientIp = "x-client-ip",
    XClusterClientIp = "x-cluster-client-ip",
    TrueClientIp = "true-client-ip",
    FastlyClientIp = "fastly-client-ip",
    CfConnectingIp = "cf-connecting-ip",
    CfConnectingIpv6 = "cf-connecting-ipv6",
    CfPseudoIpv4 = "cf-pseudo-ipv4",
    CfIpCountry = "cf-ipcountry",
    CfVisitor = "cf-visitor",
    CfRay = "cf-ray",
    // The contract's request headers.
    CfAigAuthorization = "cf-aig-authorization",
    CfAigGatewayId = "cf-aig-gateway-id",
    CfAigByokAlias = "cf-aig-byok-alias",
    CfAigNoWholesale = "cf-aig-no-wholesale",
    CfAigZdr = "cf-aig-zdr",
    CfAigCacheTtl = "cf-aig-cache-ttl",
    CfAigSkipCache = "cf-aig-skip-cache",
    CfAigCacheKey = "cf-aig-cache-key",
    CfAigCollectLog = "cf-aig-collect-log",
    CfAigCollectLogPayload = "cf-aig-collect-log-payload",
    CfAigMetadata = "cf-aig-metadata",
    CfAigCustomCost = "cf-aig-custom-cost",
    CfAigEventId = "cf-aig-event-id",
    CfAigRequestTimeout = "cf-aig-request-timeout",
    CfAigMaxAttempts = "cf-aig-max-attempts",
    CfAigRetryDelay = "cf-aig-retry-delay",
    CfAigBackoff = "cf-aig-backoff",
    CfAigOtelTraceId = "cf-aig-otel-trace-id",
    CfAigOtelParentSpanId = "cf-aig-otel-parent-span-id",
    CfAigSessionId = "cf-aig-session-id",
    CfAigTurnId = "cf-aig-turn-id",
    CfAigNoSessionAffinity = "cf-aig-no-session-affinity",
    CfAigAllowedModels = "cf-aig-allowed-models",
    CfAigAllowedProviders = "cf-aig-allowed-providers",
    CfAigRetryCount = "cf-aig-retry-count",
    CfAigRetryBackoff = "cf-aig-retry-backoff",
    CfCacheTtl = "cf-cache-ttl",
    CfSkipCache = "cf-skip-cache",
    PaymentMethod = "payment-method",
    PaymentSignature = "payment-signature",
    // The contract's response headers; a provider that sends one is not believed.
    CfAigCacheStatus = "cf-aig-cache-status",
    CfAigStep = "cf-aig-step",
    CfAigLogId = "cf-aig-log-id",
    CfAigRequestId = "cf-aig-request-id",
    CfAigModel = "cf-aig-model",
    CfAigProvider = "cf-aig-provider",
    CfAigDlp = "cf-aig-dlp",
    CfAigRoutedModel = "cf-aig-routed-model",
    CfAigRoutingReason = "cf-aig-routing-reason",
    CfAigRoutingDecisionId = "cf-aig-routing-decision-id",
    CfAigRunId = "cf-aig-run-id",
    // Providers' own.
    XFalTargetUrl = "x-fal-target-url",
    RequestId = "request-id",
    XRequestId = "x-request-id",
    XAmznRequestId = "x-amzn-requestid",
    XAmznBedrockInputTokenCount = "x-amzn-bedrock-input-token-count",
    XAmznBedrockOutputTokenCount = "x-amzn-bedrock-output-token-count",
    XAmznBedrockInvocationLatency = "x-amzn-bedrock-invocation-latency",
    AnthropicVersion = "anthropic-version",
    AnthropicBeta = "anthropic-beta",
    CartesiaVersion = "cartesia-version",
}

impl FieldName {
    /// Looks a name up, whatever its letters' case; without allocation, in a few nanoseconds.
    ///
    /// ```
    /// use tidegate::http::header::FieldName;
    ///
    /// assert_eq!(FieldName::of(b"Content-Length"), FieldName::ContentLength);
    /// assert_eq!(FieldName::of(b"content_length"), FieldName::Other);
    /// ```
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let mut slot = slot_of(name);
        // The table has empty slots (asserted where it is built), so the walk ends.
        while let Some(&known) = TABLE.get(slot) {
            if known == Self::Other {
                break;
            }
            if is_name(name, known.as_str().as_bytes()) {
                return known;
            }
            slot = (slot + 1) % SLOTS;
        }
        Self::Other
    }

    /// Says whether the field concerns one connection only and is never passed on (RFC 9110
    /// section 7.6.1). Fields named by `Connection` join them, see [`connection_names`].
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyAuthenticationInfo
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Says whether the field tells where the caller sits. A provider sees the server's address,
    /// never the caller's (data-plane contract 3.1).
    pub fn is_client_address(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::XForwardedPort
                | Self::XForwardedServer
                | Self::XOriginalForwardedFor
                | Self::XRealIp
                | Self::XClientIp
                | Self::XClusterClientIp
                | Self::TrueClientIp
                | Self::FastlyClientIp
                | Self::CfConnectingIp
                | Self::CfConnectingIpv6
                | Self::CfPseudoIpv4
        )
    }
}

/// Says whether `name` is `known`, a name in lower case, in any letter case.
#[inline]
fn is_name(name: &[u8], known: &[u8]) -> bool {
    if name.len() != known.len() {
        return false;
    }
    let (words, _) = name.as_chunks::<8>();
    let (known_words, _) = known.as_chunks::<8>();
    // The last word overlaps the one before, so that no bytes are left over.
    let (Some(last), Some(known_last)) = (name.last_chunk(), known.last_chunk()) else {
        return name.eq_ignore_ascii_case(known);
    };
    let mut pairs = words.iter().zip(known_words);
    pairs.all(|(word, known)| is_word(*word, *known)) && is_word(*last, *known_last)
}

/// Compares eight bytes with eight of a name in lower case.
#[inline]
fn is_word(word: [u8; 8], known: [u8; 8]) -> bool {
    /// The bit that letters have, and digits and the hyphen have not.
    const LETTER: u64 = u64::from_le_bytes([0x40; 8]);
    let known = u64::from_le_bytes(known);
    // Upper and lower case differ in one bit, the one below.
    let case = (known & LETTER) >> 1;
    (u64::from_le_bytes(word) ^ known) & !case == 0
}

/// Says whether a field is between the caller and us alone: every `cf-*` (so every `cf-aig-*`)
/// and every `tg-*`, in any letter case, known or not.
///
/// ```
/// use tidegate::http::header::is_gateway_only;
///
/// assert!(is_gateway_only(b"CF-AIG-Something-New"));
/// assert!(!is_gateway_only(b"cfx"));
/// ```
pub fn is_gateway_only(name: &[u8]) -> bool {
    name.first_chunk::<3>().is_some_and(|start| {
        start.eq_ignore_ascii_case(b"cf-") || start.eq_ignore_ascii_case(b"tg-")
    })
}

/// Reads a value that is a whole number: digits and nothing else. One beyond the width is the greatest.
///
/// ```
/// use tidegate::http::header::whole_number;
///
/// assert_eq!(whole_number(b"60"), Some(60));
/// assert_eq!(whole_number(b"99999999999999999999999"), Some(u64::MAX));
/// assert_eq!(whole_number(b"+5"), None);
/// ```
pub fn whole_number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = value.iter().fold(0u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    });
    Some(number)
}

/// Says whether a `Connection` value names `name`; with several `Connection` fields, ask for each.
///
/// ```
/// use tidegate::http::header::connection_names;
///
/// assert!(connection_names(b"close, X-Trace", b"x-trace"));
/// assert!(!connection_names(b"close", b"x-trace"));
/// ```
pub fn connection_names(value: &[u8], name: &[u8]) -> bool {
    list_items(value).any(|item| item.eq_ignore_ascii_case(name))
}

/// The items of a comma-separated field value, without the white space around them; empty items
/// are left out (RFC 9110 section 5.6.1).
pub fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// Says whether `byte` may stand in a token: a header name or a method (RFC 9110 section 5.6.2).
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = token_bytes();
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler alone")]
const fn token_bytes() -> [bool; 256] {
    let mut allowed = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        allowed[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        allowed[marks[at] as usize] = true;
        at += 1;
    }
    allowed
}

/// Slots of the lookup table: some eight times the names, so that nearly every lookup of an
/// unknown name meets an empty slot at once.
const SLOTS: usize = 1024;

/// Open addressing by [`slot_of`]; `Other` marks an empty slot.
static TABLE: [FieldName; SLOTS] = build_table();

/// Where a name's search starts: its length and three of its bytes, folded to lower case.
const fn slot_of(name: &[u8]) -> usize {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    let (_, second_half) = name.split_at(name.len() / 2);
    let middle = match second_half.first() {
        Some(middle) => *middle,
        None => 0,
    };
    let mixed = name.len().wrapping_mul(0x9e37_79b1)
        ^ ((*first | 0x20) as usize).wrapping_mul(0x85eb_ca6b)
        ^ ((*last | 0x20) as usize).wrapping_mul(0xc2b2_ae35)
        ^ ((middle | 0x20) as usize).wrapping_mul(0x27d4_eb2f);
    (mixed >> 22) % SLOTS
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler alone")]
const fn build_table() -> [FieldName; SLOTS] {
    assert!(
        FieldName::KNOWN.len() < SLOTS / 4,
        "the table must stay sparse"
    );
    let mut table = [FieldName::Other; SLOTS];
    let mut at = 0;
    while at < FieldName::KNOWN.len() {
        let name = FieldName::KNOWN[at];
        let mut slot = slot_of(name.as_str().as_bytes());
        while !matches!(table[slot], FieldName::Other) {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = name;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for &name in FieldName::KNOWN {
            let text = name.as_str();
            assert_eq!(FieldName::of(text.as_bytes()), name);
            assert_eq!(FieldName::of(text.to_ascii_uppercase().as_bytes()), name);
        }
    }

    #[test]
    fn known_names_are_letters_digits_and_hyphens() {
        for &name in FieldName::KNOWN {
            let is_plain =
                |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
            assert!(name.as_str().as_bytes().iter().all(is_plain), "{name:?}");
        }
    }

    #[test]
    fn a_known_name_with_any_byte_changed_is_compared_exactly() {
        for &name in FieldName::KNOWN {
            let known = name.as_str().as_bytes();
            for (at, right) in known.iter().enumerate() {
                for byte in 0..=u8::MAX {
                    let mut text = known.to_vec();
                    text.splice(at..=at, [byte]);
                    let same = byte.eq_ignore_ascii_case(right);
                    assert_eq!(is_name(&text, known), same, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_name_that_is_nearly_known_is_other() {
        for name in [
            "",
            "h",
            "hos",
            "hostt",
            "content_length",
            "content-lengti",
            "-",
            "cf-aig-",
            "transfer-encodinG ",
            "\x08ost",
            "content\rlength",
            "x-amzn-bedrock-input-token-counts",
        ] {
            assert_eq!(FieldName::of(name.as_bytes()), FieldName::Other, "{name:?}");
        }
    }

    #[test]
    fn a_lookup_walks_few_slots() {
        for &name in FieldName::KNOWN {
            let start = slot_of(name.as_str().as_bytes());
            let found = TABLE.iter().position(|slot| *slot == name).unwrap();
            let walked = (found + SLOTS - start) % SLOTS;
            assert!(walked < 8, "{} walks {walked}", name.as_str());
        }
    }

    #[test]
    fn the_contracts_names_are_gateway_only() {
        for &name in FieldName::KNOWN {
            let text = name.as_str();
            let ours = text.starts_with("cf-") || text.starts_with("tg-");
            assert_eq!(is_gateway_only(text.as_bytes()), ours, "{text}");
        }
        assert!(is_gateway_only(b"Tg-Replay"));
        assert!(!is_gateway_only(b"cf"));
        assert!(!is_gateway_only(b"c-f-"));
    }

    #[test]
    fn hop_by_hop_fields_are_the_connections_own() {
        let kept: Vec<_> = FieldName::KNOWN
            .iter()
            .filter(|name| name.is_hop_by_hop())
            .map(|name| name.as_str())
            .collect();
        assert_eq!(
            kept,
            [
                "transfer-encoding",
                "connection",
                "keep-alive",
                "proxy-connection",
                "proxy-authenticate",
                "proxy-authorization",
                "proxy-authentication-info",
                "te",
                "trailer",
                "upgrade",
                "http2-settings",
            ]
        );
    }

    #[test]
    fn a_list_is_read_without_its_white_space_and_empty_items() {
        let items: Vec<_> = list_items(b" close ,, \tX-Trace,").collect();
        assert_eq!(items, [b"close".as_slice(), b"X-Trace"]);
        assert!(!connection_names(b"x-trace-more", b"x-trace"));
        assert!(!connection_names(b"", b"x"));
    }

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let count = (0..=u8::MAX).filter(|byte| is_token_byte(*byte)).count();
        assert_eq!(count, 10 + 26 + 26 + 15);
        assert!(!is_token_byte(b':') && !is_token_byte(b' ') && !is_token_byte(0x80));
    }
}
