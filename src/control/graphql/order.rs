//! In which order groups come.

use std::cmp::Ordering;

use async_graphql::Enum;

use super::{
    filter::Name,
    groups::{Dimension, SumField},
};
use crate::control::{
    logs::query::group::{Group, Stretch},
    rollup::totals::Time,
};

/// By what groups are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKey {
    /// Requests.
    Count,
    /// When they began.
    Time(Stretch),
    /// A text.
    Name(Name),
    /// A sum.
    Sum(SumField),
    /// A quantile of the duration, in thousandths.
    Quantile(u32),
}

impl OrderKey {
    /// The dimension that it needs.
    pub fn dimension(self) -> Option<Dimension> {
        match self {
            Self::Time(stretch) => Some(Dimension::Time(stretch)),
            Self::Name(name) => Some(Dimension::Name(name)),
            Self::Count | Self::Sum(_) | Self::Quantile(_) => None,
        }
    }

    /// Compares two groups; what is unknown comes first.
    pub fn compare(self, dimensions: &[Dimension], a: &Group, b: &Group) -> Ordering {
        match self {
            Self::Count => a.totals.requests.cmp(&b.totals.requests),
            Self::Sum(field) => field.of(&a.totals).cmp(&field.of(&b.totals)),
            Self::Quantile(per_mille) => {
                let of = |group: &Group| group.times[Time::Duration as usize].quantile(per_mille);
                of(a).cmp(&of(b))
            }
            Self::Time(_) | Self::Name(_) => {
                let wanted = self.dimension();
                let mut all = dimensions.iter();
                match all.position(|dimension| Some(dimension) == wanted.as_ref()) {
                    Some(at) => a.parts.get(at).cmp(&b.parts.get(at)),
                    None => Ordering::Equal,
                }
            }
        }
    }
}

macro_rules! orders {
    ($($asc:ident $asc_name:tt $desc:ident $desc_name:tt $what:tt $key:expr;)*) => {
        /// By what groups are put in order. A dimension must be among those selected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
        #[graphql(name = "AccountAiGatewayRequestsAdaptiveGroupsOrderBy")]
        pub enum OrderBy {
            $(
                #[doc = concat!("By ", $what, ", least first.")]
                #[graphql(name = $asc_name)]
                $asc,
                #[doc = concat!("By ", $what, ", greatest first.")]
                #[graphql(name = $desc_name)]
                $desc,
            )*
        }

        impl OrderBy {
            /// The key, and whether the greatest comes first.
            pub fn key(self) -> (OrderKey, bool) {
                match self {
                    $(
                        Self::$asc => ($key, false),
                        Self::$desc => ($key, true),
                    )*
                }
            }
        }
    };
}

orders! {
    CountAsc "count_ASC" CountDesc "count_DESC" "requests" OrderKey::Count;
    MinuteAsc "datetimeMinute_ASC" MinuteDesc "datetimeMinute_DESC" "minute"
        OrderKey::Time(Stretch::Minute);
    HourAsc "datetimeHour_ASC" HourDesc "datetimeHour_DESC" "hour" OrderKey::Time(Stretch::Hour);
    DateAsc "date_ASC" DateDesc "date_DESC" "day" OrderKey::Time(Stretch::Day);
    ModelAsc "model_ASC" ModelDesc "model_DESC" "model" OrderKey::Name(Name::Model);
    ProviderAsc "provider_ASC" ProviderDesc "provider_DESC" "provider"
        OrderKey::Name(Name::Provider);
    GatewayAsc "gateway_ASC" GatewayDesc "gateway_DESC" "gateway" OrderKey::Name(Name::Gateway);
    MetadataAsc "metadataRaw_ASC" MetadataDesc "metadataRaw_DESC" "metadata as JSON text"
        OrderKey::Name(Name::MetadataRaw);
    CostAsc "sum_cost_ASC" CostDesc "sum_cost_DESC" "cost" OrderKey::Sum(SumField::Cost);
    CachedAsc "sum_cachedRequests_ASC" CachedDesc "sum_cachedRequests_DESC"
        "requests answered from the cache" OrderKey::Sum(SumField::CachedRequests);
    ErroredAsc "sum_erroredRequests_ASC" ErroredDesc "sum_erroredRequests_DESC"
        "errors" OrderKey::Sum(SumField::ErroredRequests);
    CachedInAsc "sum_cachedTokensIn_ASC" CachedInDesc "sum_cachedTokensIn_DESC"
        "input tokens answered from the cache" OrderKey::Sum(SumField::CachedTokensIn);
    CachedOutAsc "sum_cachedTokensOut_ASC" CachedOutDesc "sum_cachedTokensOut_DESC"
        "output tokens answered from the cache" OrderKey::Sum(SumField::CachedTokensOut);
    UncachedInAsc "sum_uncachedTokensIn_ASC" UncachedInDesc "sum_uncachedTokensIn_DESC"
        "input tokens answered by providers" OrderKey::Sum(SumField::UncachedTokensIn);
    UncachedOutAsc "sum_uncachedTokensOut_ASC" UncachedOutDesc "sum_uncachedTokensOut_DESC"
        "output tokens answered by providers" OrderKey::Sum(SumField::UncachedTokensOut);
    P50Asc "quantiles_durationMsP50_ASC" P50Desc "quantiles_durationMsP50_DESC"
        "the median of the duration" OrderKey::Quantile(500);
    P90Asc "quantiles_durationMsP90_ASC" P90Desc "quantiles_durationMsP90_DESC"
        "the 90th percentile of the duration" OrderKey::Quantile(900);
    P95Asc "quantiles_durationMsP95_ASC" P95Desc "quantiles_durationMsP95_DESC"
        "the 95th percentile of the duration" OrderKey::Quantile(950);
    P99Asc "quantiles_durationMsP99_ASC" P99Desc "quantiles_durationMsP99_DESC"
        "the 99th percentile of the duration" OrderKey::Quantile(990);
}
