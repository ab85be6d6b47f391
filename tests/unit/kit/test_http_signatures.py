"""The profile of HTTP Message Signatures: what is none, and what is signed of one that is."""

import base64
import hashlib

import pytest

from tenantry.kit.http_signatures import NotASignatureError, digest_matches, read_signature, signature_base

SIGNATURE = base64.b64encode(bytes(64)).decode()
PARAMETERS = ';created=1618884473;nonce="n-1";keyid="k";alg="ed25519"'


def _read(
    names: str = '"@method" "@path"', parameters: str = PARAMETERS, signature: str = f"sig1=:{SIGNATURE}:"
) -> None:
    read_signature(f"sig1=({names}){parameters}", signature)


def test_what_is_signed_is_one_line_a_component_and_the_parameters_as_sent() -> None:
    told = f'sig1=("@method" "content-digest"){PARAMETERS}'
    signature = read_signature(told, f"sig1=:{SIGNATURE}:")
    values = {"@method": "POST", "content-digest": "sha-256=:x:"}
    assert signature_base(signature, values.__getitem__).decode().split("\n") == [
        '"@method": POST',
        '"content-digest": sha-256=:x:',
        f'"@signature-params": ("@method" "content-digest"){PARAMETERS}',
    ]
    assert (signature.created, signature.nonce, signature.keyid, signature.expires) == (1618884473, "n-1", "k", None)


@pytest.mark.parametrize(
    "names",
    ["", '"@method"  "@path"', '"@method" "@method"', '"@query-param";name="a"', '"Host"', "@method", '"a" ', '"a b"'],
)
def test_components_written_otherwise_are_none(names: str) -> None:
    with pytest.raises(NotASignatureError):
        _read(names)


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        PARAMETERS.replace("created=1618884473", 'created="1618884473"'),
        PARAMETERS.replace("created=1618884473", "created=-1"),
        PARAMETERS.replace("created=1618884473", "created=1.5"),
        PARAMETERS.replace(';nonce="n-1"', ""),
        PARAMETERS.replace('nonce="n-1"', 'nonce=""'),
        PARAMETERS.replace('nonce="n-1"', "nonce=1"),
        PARAMETERS.replace('keyid="k"', 'keyid="k\\""'),
        PARAMETERS.replace("ed25519", "none"),
        f"{PARAMETERS};created=1618884473",
        f'{PARAMETERS};tag="t"',
        f"{PARAMETERS}, sig2=()",
        f"{PARAMETERS}\n",
    ],
)
def test_parameters_of_another_form_are_none(parameters: str) -> None:
    with pytest.raises(NotASignatureError):
        _read(parameters=parameters)


@pytest.mark.parametrize(
    "signature", ["", "sig1=::", f"sig2=:{SIGNATURE}:", f"sig1=:{SIGNATURE}:;a", f"sig1={SIGNATURE}"]
)
def test_a_signature_of_another_form_is_none(signature: str) -> None:
    with pytest.raises(NotASignatureError):
        _read(signature=signature)


def test_a_digest_is_the_bodys_by_each_hash_it_names() -> None:
    short, long = (
        f"{name}=:{base64.b64encode(make(b'body').digest()).decode()}:"
        for name, make in (("sha-256", hashlib.sha256), ("sha-512", hashlib.sha512))
    )
    assert digest_matches(short, b"body")
    assert digest_matches(f"{short}, {long}", b"body")
    for header in (f"{short}, {long.replace('A', 'B')}x", f"{short}, md5=:AAAA:", "", ",", short.replace(":", "")):
        assert not digest_matches(header, b"body")
    assert not digest_matches(short, b"Body")
