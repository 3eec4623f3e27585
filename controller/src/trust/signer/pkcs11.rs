//! A key on a token behind the vendor's PKCS#11 library: `CKM_EDDSA` over the plain bytes. The
//! secret half never leaves it.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use fleetway_protocol::envelope::PublicKey;

use super::{Passphrase, Signer, SignerError};

struct Token {
    session: Session,
    private: ObjectHandle,
    public: PublicKey,
}

fn error(text: impl Into<String>) -> SignerError {
    SignerError::Pkcs11(text.into())
}

/// The key `object` on `token`.
pub(super) fn open(
    module: &Path,
    token: &str,
    object: &str,
    ask: &Passphrase,
) -> Result<Box<dyn Signer>, SignerError> {
    let library = module.display();
    let pkcs11 = Pkcs11::new(module)
        .map_err(|why| error(format!("the library {library} does not load: {why}")))?;
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(why) => return Err(error(format!("{library} does not start: {why}"))),
    }
    let slots = pkcs11
        .get_slots_with_token()
        .map_err(|why| error(format!("{library} lists no tokens: {why}")))?;
    let slot = slots.into_iter().find(|slot| {
        pkcs11.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == token)
    });
    let slot =
        slot.ok_or_else(|| error(format!("there is no token {token:?}; is it plugged in?")))?;
    let session = pkcs11
        .open_ro_session(slot)
        .map_err(|why| error(format!("token {token:?} opens no session: {why}")))?;
    let what = format!("token {token:?} (its PIN)");
    match session.login(UserType::User, Some(&ask.of(&what)?)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(Error::Pkcs11(RvError::PinIncorrect, _)) => {
            return Err(SignerError::Passphrase(what));
        }
        Err(why) => return Err(error(format!("token {token:?} takes no login: {why}"))),
    }
    let private = find(&session, ObjectClass::PRIVATE_KEY, object)?;
    let public = public_key(&session, find(&session, ObjectClass::PUBLIC_KEY, object)?)
        .ok_or_else(|| error(format!("key {object:?} is no Ed25519 key")))?;
    Ok(Box::new(Token { session, private, public }))
}

fn find(session: &Session, class: ObjectClass, label: &str) -> Result<ObjectHandle, SignerError> {
    let wanted = [
        Attribute::Class(class),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = session.find_objects(&wanted).map_err(|why| error(why.to_string()))?;
    match found[..] {
        [one] => Ok(one),
        [] => Err(error(format!("it has no Ed25519 {class} called {label:?}"))),
        _ => Err(error(format!("several keys are called {label:?}; give them different labels"))),
    }
}

/// The point, bare or as the DER octet string that the standard asks for.
fn public_key(session: &Session, handle: ObjectHandle) -> Option<PublicKey> {
    let attributes = session.get_attributes(handle, &[AttributeType::EcPoint]).ok()?;
    let Some(Attribute::EcPoint(point)) = attributes.first() else { return None };
    let bare = match point.as_slice() {
        [0x04, 0x20, bare @ ..] => bare,
        bare => bare,
    };
    PublicKey::new(bare.try_into().ok()?).ok()
}

impl Signer for Token {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signed = self.session.sign(&mechanism, self.private, message);
        let signature = signed.map_err(|why| error(format!("it did not sign: {why}")))?;
        signature.try_into().map_err(|_| error("its signature has not 64 bytes"))
    }
}
