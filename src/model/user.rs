//! Users: their names, addresses and passwords, checked where they are parsed.

use super::id::{LoginId, UserId};
use super::secret::Secret;
use super::timestamp::Timestamp;

/// A name: 3 to 50 of `[a-zA-Z0-9_-]`, unique regardless of case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

/// An e-mail address, unique regardless of case; kept as it was given, compared by its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

/// A password that may be set: 8 to 128 characters with a letter, a digit and a symbol.
#[derive(Clone, Debug)]
pub struct NewPassword(Secret);

/// Why a name, an address or a password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserFieldError {
    /// A name of the wrong length or with other characters.
    #[error("must be 3 to 50 letters, digits, underscores or hyphens (a-z, A-Z, 0-9, _, -)")]
    Username,
    /// Not an address that mail could be sent to.
    #[error("must be an e-mail address of at most 254 characters, such as name@example.com")]
    Email,
    /// Too short, too long or too plain.
    #[error("must have 8 to 128 characters, among them a letter, a digit and a symbol")]
    Password,
}

impl Username {
    /// Checks a name.
    ///
    /// # Errors
    /// [`UserFieldError::Username`] where it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, UserFieldError> {
        let fits = (3..=50).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(UserFieldError::Username) }
    }

    /// The name as its owner writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes it unique: the name in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl Email {
    /// Checks an address: one `@` with something before it and a dotted host behind it, no blanks or
    /// control characters, at most 254 bytes (RFC 5321). Whether mail arrives there is not known here.
    ///
    /// # Errors
    /// [`UserFieldError::Email`] where it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, UserFieldError> {
        let text = text.trim();
        let fits = text.len() <= 254
            && !text.chars().any(|char| char.is_whitespace() || char.is_control())
            && text.rsplit_once('@').is_some_and(|(local, host)| {
                !local.is_empty()
                    && local.len() <= 64
                    && !local.contains('@')
                    && host.contains('.')
                    && host.split('.').all(|label| !label.is_empty())
            });
        if fits { Ok(Self(text.to_owned())) } else { Err(UserFieldError::Email) }
    }

    /// The address as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes it unique: the address in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address belongs in no log.
        f.write_str("Email(***)")
    }
}

impl NewPassword {
    /// Checks a password that is to be set.
    ///
    /// # Errors
    /// [`UserFieldError::Password`] where it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, UserFieldError> {
        let fits = (8..=128).contains(&text.chars().count())
            && text.chars().any(char::is_alphabetic)
            && text.chars().any(char::is_numeric)
            && text.chars().any(|char| !char.is_alphanumeric());
        if fits { Ok(Self(Secret::new(text))) } else { Err(UserFieldError::Password) }
    }

    /// The password, for hashing.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// A user as stored; `email` is shown to the user alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub username: String,
    /// Its address; users of an outside issuer may have none.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name was last changed.
    pub updated_at: Option<Timestamp>,
}

/// Who makes a request or holds a socket, and by which login: what a token stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The login that the token came of; ending it ends the token.
    pub login: LoginId,
    /// Until when the token is good.
    pub expires_at: Timestamp,
}

/// A user as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The user.
    pub user: User,
    /// Posts that are not deleted.
    pub posts: u64,
    /// Users who follow it.
    pub followers: u64,
    /// Users whom it follows.
    pub following: u64,
    /// Whether the one who asks follows it.
    pub is_following: bool,
}

/// A user by id and name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: UserId,
    /// Its name now.
    pub username: String,
}

#[cfg(test)]
mod tests {
    use super::{Email, NewPassword, Username};

    #[test]
    fn a_username_has_3_to_50_plain_characters() {
        for good in ["abc", "A_b-9", &"x".repeat(50)] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
        for bad in ["ab", "", "a b c", "é-name", "a.b.c", &"x".repeat(51), "abc\n"] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_email_has_a_name_and_a_dotted_host() {
        for good in ["a@b.co", "First.Last+tag@sub.example.com"] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "@b.co", "a@b", "a@b..co", "a b@c.de", "a@b@c.de", "a\0@b.co"] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_has_a_letter_a_digit_and_a_symbol() {
        for good in ["Passw0rd!", "pass word 1", &("a1!".to_owned() + &"x".repeat(125))] {
            assert!(NewPassword::parse(good).is_ok(), "{good}");
        }
        for bad in ["a1!", "password!", "12345678!", "passw0rd", &("a1!".to_owned() + &"x".repeat(126))] {
            assert!(NewPassword::parse(bad).is_err(), "{bad}");
        }
    }
}
