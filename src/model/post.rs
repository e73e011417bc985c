//! Posts, and the one place where a post's text is checked: [`Content::parse`].

use super::id::{PostId, UserId};
use super::timestamp::Timestamp;
use unicode_normalization::UnicodeNormalization;

/// The most Unicode scalar values that a post may have.
pub const MAX_CONTENT_CHARS: usize = 280;

/// A post's text as it is stored and shown: line ends are LF, the ends trimmed, NFC, 1 to 280
/// Unicode scalar values, no control characters but LF, no characters that turn the direction of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(String);

/// Why a text is no post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Nothing is left after trimming.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed, as stored.
    #[error("must have at most {max} characters, has {found}")]
    TooLong {
        /// Unicode scalar values that are allowed.
        max: usize,
        /// Unicode scalar values that it has after normalisation.
        found: usize,
    },
    /// A character that may not be stored.
    #[error("must not contain the character U+{:04X}", u32::from(*.0))]
    Forbidden(char),
}

impl Content {
    /// Normalises and checks `text` by the rules of posts.
    ///
    /// # Errors
    /// What is wrong with it, in words for its sender.
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        parse_text(text, MAX_CONTENT_CHARS).map(Self)
    }

    /// A text that was stored, hence checked, before.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// CR LF becomes LF, the ends are trimmed, NFC is applied; then 1 to `max` scalar values, none forbidden.
pub(super) fn parse_text(text: &str, max: usize) -> Result<String, ContentError> {
    let text: String = text.replace("\r\n", "\n").trim().nfc().collect();
    if text.is_empty() {
        return Err(ContentError::Empty);
    }
    if let Some(found) = text.chars().find(|char| is_forbidden(*char)) {
        return Err(ContentError::Forbidden(found));
    }
    match text.chars().count() {
        found if found > max => Err(ContentError::TooLong { max, found }),
        _ => Ok(text),
    }
}

/// Control characters other than LF, and those that override or isolate the direction of text.
fn is_forbidden(char: char) -> bool {
    (char.is_control() && char != '\n') || matches!(char, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// A post as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Its id.
    pub id: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub content: Content,
    /// How many like it.
    pub likes: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A post as one reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostView {
    /// The post.
    pub post: Post,
    /// Its author's name now.
    pub author_name: String,
    /// Whether the reader likes it.
    pub is_liked: bool,
}

#[cfg(test)]
mod tests {
    use super::{Content, ContentError};

    fn check(text: &str, expect: Result<&str, ContentError>) {
        let found = Content::parse(text);
        assert_eq!(found.as_ref().map(Content::as_str).map_err(|error| *error), expect, "{text:?}");
    }

    #[test]
    fn is_normalised_then_measured() {
        check("  hello\r\nworld \n", Ok("hello\nworld"));
        check("e\u{301}", Ok("\u{e9}"));
        check(&"e\u{301}".repeat(280), Ok(&"\u{e9}".repeat(280)));
        check(&"\u{1F600}".repeat(280), Ok(&"\u{1F600}".repeat(280)));
        check(&"x".repeat(281), Err(ContentError::TooLong { max: 280, found: 281 }));
    }

    #[test]
    fn refuses_what_may_not_be_shown() {
        check(" \r\n\t", Err(ContentError::Empty));
        check("a\tb", Err(ContentError::Forbidden('\t')));
        check("a\rb", Err(ContentError::Forbidden('\r')));
        check("a\0b", Err(ContentError::Forbidden('\0')));
        check("a\u{202E}b", Err(ContentError::Forbidden('\u{202E}')));
        check("a\u{2066}b", Err(ContentError::Forbidden('\u{2066}')));
        check("<b>&\u{200D}", Ok("<b>&\u{200D}"));
    }
}
