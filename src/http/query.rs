//! Query strings. Owns which parameters a call knows: an unknown one, a repeated one and one out of its
//! range is a 400 that names it, so that a misspelt `limit` is not silently the default.

use super::problem::{FieldProblem, Problem};
use crate::model::cursor::ConversationCursor;
use crate::service::PageRequest;
use crate::service::converse::ConversationName;
use crate::service::timeline::{From, TimelineRequest};
use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use std::str::FromStr;

/// A page has so many items where none is asked for.
const DEFAULT_LIMIT: usize = 20;
/// A page has at most so many items.
const MAX_LIMIT: usize = 100;
/// Of what a client wrote, an answer repeats so many characters.
const ECHO_CHARS: usize = 64;

/// `?limit&cursor` of a list.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery(pub PageRequest);

/// `?limit&cursor` or `?limit&offset` of the timeline.
#[derive(Clone, Copy, Debug)]
pub struct TimelineQuery(pub TimelineRequest);

/// `?username` of a search.
#[derive(Clone, Debug)]
pub struct NameQuery(pub String);

/// `?conversationId&limit&cursor` of a history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// Of which conversation.
    pub conversation: ConversationName,
    /// Which part.
    pub page: PageRequest,
}

/// `?limit&cursor` of a list of conversations.
#[derive(Clone, Copy, Debug)]
pub struct ConversationsQuery {
    /// Conversations at most; where it is not said, as many as may be.
    pub limit: usize,
    /// Where a former part ended.
    pub cursor: Option<ConversationCursor>,
}

/// `?mine=true` of a list of rooms: there is no other.
#[derive(Clone, Copy, Debug)]
pub struct OwnRoomsQuery;

impl<S: Send + Sync> FromRequestParts<S> for OwnRoomsQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        match given.take("mine").as_deref() {
            Some("true") => {}
            Some(_) => given.refuse("mine", "must be true: there is no list of all rooms"),
            None => given.refuse("mine", "is missing: there is no list of all rooms"),
        }
        given.finish()?;
        Ok(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for HistoryQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        let conversation = match given.take("conversationId").map(|text| text.parse()) {
            Some(Ok(name)) => name,
            Some(Err(())) => {
                given.refuse("conversationId", "must be a UUID or support-demo");
                ConversationName::Support
            }
            None => {
                given.refuse("conversationId", "is missing");
                ConversationName::Support
            }
        };
        let (limit, cursor) = (given.limit(), given.cursor());
        given.finish()?;
        Ok(Self { conversation, page: PageRequest { limit, cursor } })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ConversationsQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        let limit = given.limit_or(MAX_LIMIT);
        let cursor = given.cursor();
        given.finish()?;
        Ok(Self { limit, cursor })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        let limit = given.limit();
        let cursor = given.cursor();
        given.finish()?;
        Ok(Self(PageRequest { limit, cursor }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TimelineQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        let limit = given.limit();
        let cursor = given.cursor();
        let offset = given.offset();
        if cursor.is_some() && offset.is_some() {
            given.refuse("offset", "is not taken together with cursor");
        }
        given.finish()?;
        let from = match (cursor, offset) {
            (Some(cursor), _) => From::Cursor(cursor),
            (None, Some(offset)) => From::Offset(offset),
            (None, None) => From::Start,
        };
        Ok(Self(TimelineRequest { limit, from }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NameQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Parameters::of(&parts.uri)?;
        let username = given.take("username");
        if username.is_none() {
            given.refuse("username", "is missing");
        }
        given.finish()?;
        Ok(Self(username.unwrap_or_default()))
    }
}

/// The parameters of a query, each taken once; what is wrong with them is noted.
struct Parameters {
    left: Vec<(String, String)>,
    wrong: Vec<FieldProblem>,
}

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let Ok(Query(left)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Problem::field("query", "must be made of name=value pairs"));
        };
        Ok(Self { left, wrong: Vec::new() })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.left.iter().position(|(found, _)| found == name)?;
        let value = self.left.swap_remove(place).1;
        if self.left.iter().any(|(found, _)| found == name) {
            self.left.retain(|(found, _)| found != name);
            self.refuse(name, "is given more than once");
        }
        Some(value)
    }

    fn limit(&mut self) -> usize {
        self.limit_or(DEFAULT_LIMIT)
    }

    fn limit_or(&mut self, default: usize) -> usize {
        let Some(text) = self.take("limit") else { return default };
        match number(&text) {
            Some(limit @ 1..=MAX_LIMIT) => limit,
            _ => {
                self.refuse("limit", &format!("must be a whole number from 1 to {MAX_LIMIT}"));
                default
            }
        }
    }

    fn cursor<C: FromStr>(&mut self) -> Option<C> {
        let cursor = self.take("cursor")?.parse();
        if cursor.is_err() {
            self.refuse("cursor", "is not a cursor that this list gave out");
        }
        cursor.ok()
    }

    fn offset(&mut self) -> Option<usize> {
        let offset = number(&self.take("offset")?);
        if offset.is_none() {
            self.refuse("offset", "must be a whole number from 0");
        }
        offset
    }

    fn refuse(&mut self, name: &str, detail: &str) {
        let field = name.chars().take(ECHO_CHARS).collect();
        self.wrong.push(FieldProblem { field, detail: detail.to_owned() });
    }

    fn finish(mut self) -> Result<(), Problem> {
        if let Some((name, _)) = self.left.pop() {
            self.refuse(&name, "is not known here");
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::fields(self.wrong)) }
    }
}

/// A number written in digits alone: no sign, no blanks.
fn number(text: &str) -> Option<usize> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::{ConversationsQuery, From, HistoryQuery, ListQuery, NameQuery, TimelineQuery};
    use crate::model::cursor::PageCursor;
    use axum::extract::FromRequestParts;
    use axum::http::Request;

    async fn read<Q: FromRequestParts<()>>(query: &str) -> Result<Q, Q::Rejection> {
        let (mut parts, ()) = Request::get(format!("/x{query}")).body(()).unwrap().into_parts();
        Q::from_request_parts(&mut parts, &()).await
    }

    async fn refused<Q: FromRequestParts<(), Rejection = super::Problem>>(query: &str, field: &str) {
        let problem = read::<Q>(query).await.err().unwrap_or_else(|| panic!("{query} was taken"));
        let shown = serde_json::to_value(problem.document("/", "t")).unwrap();
        assert_eq!(
            (&shown["status"], &shown["errors"][0]["field"]),
            (&400.into(), &field.into()),
            "{query}: {shown}"
        );
    }

    #[tokio::test]
    async fn a_page_has_20_items_or_as_many_as_asked() {
        let page = read::<ListQuery>("").await.unwrap().0;
        assert_eq!((page.limit, page.cursor), (20, None));
        let cursor = PageCursor { before: 7, shown: 20 };
        let page = read::<ListQuery>(&format!("?limit=100&cursor={cursor}")).await.unwrap().0;
        assert_eq!((page.limit, page.cursor), (100, Some(cursor)));
    }

    #[tokio::test]
    async fn what_is_out_of_range_unknown_or_repeated_is_named() {
        for limit in ["0", "101", "-1", "+5", "abc", "", "1.5", "99999999999999999999999"] {
            refused::<ListQuery>(&format!("?limit={limit}"), "limit").await;
        }
        refused::<ListQuery>("?cursor=abc", "cursor").await;
        refused::<ListQuery>("?cursor=", "cursor").await;
        refused::<ListQuery>("?limt=5", "limt").await;
        refused::<ListQuery>("?limit=5&limit=5", "limit").await;
        refused::<ListQuery>("?offset=5", "offset").await;
        refused::<TimelineQuery>("?offset=-1", "offset").await;
        refused::<NameQuery>("", "username").await;
        refused::<NameQuery>("?username=a&username=b", "username").await;
    }

    #[tokio::test]
    async fn a_timeline_begins_at_its_start_a_cursor_or_an_offset_but_not_at_two() {
        let from = async |query: &str| read::<TimelineQuery>(query).await.unwrap().0.from;
        assert!(matches!(from("?limit=5").await, From::Start));
        assert!(matches!(from("?offset=40").await, From::Offset(40)));
        let cursor = PageCursor { before: 7, shown: 20 };
        let at = from(&format!("?cursor={cursor}")).await;
        assert!(matches!(at, From::Cursor(found) if found == cursor));
        refused::<TimelineQuery>(&format!("?cursor={cursor}&offset=1"), "offset").await;
    }

    #[tokio::test]
    async fn a_history_is_of_a_conversation_and_conversations_are_as_many_as_may_be() {
        refused::<HistoryQuery>("", "conversationId").await;
        refused::<HistoryQuery>("?conversationId=x", "conversationId").await;
        assert_eq!(read::<HistoryQuery>("?conversationId=support-demo").await.unwrap().page.limit, 20);
        assert_eq!(read::<ConversationsQuery>("").await.unwrap().limit, 100);
        refused::<ConversationsQuery>(&format!("?cursor={}", PageCursor { before: 7, shown: 2 }), "cursor")
            .await;
    }

    #[tokio::test]
    async fn values_are_percent_decoded() {
        assert_eq!(read::<NameQuery>("?username=Al%69ce").await.unwrap().0, "Alice");
    }
}
