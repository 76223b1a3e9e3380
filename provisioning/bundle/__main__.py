"""`python -m provisioning.bundle`: the publisher's commands, and a dry import for whoever wants to check a medium.

new-keys --out DIR --name NAME [--passphrase-stdin]     one person's key pair
new-root --out REPO --public A.pub B.pub [--days N]     a repository that two of these must sign
pack     --repo REPO --bundle NAME --files DIR          list a bundle's files, unsigned
sign     --repo REPO --key NAME.pem [--passphrase-stdin] add one person's signature
verify   --medium DIR --root ROOT.json --bundle NAME    what an appliance with this root would answer
pack-evaluation --model DIR --out DIR                   the evaluation bundle, with throwaway keys
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from provisioning.bundle import evaluation, initial, receive
from provisioning.bundle.errors import BundleError
from provisioning.bundle.pack import Publisher, Repository, load_public, new_root


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BundleError as error:
        print(f"refused: {error.code}: {error.message}", file=sys.stderr)
        return 1


def _new_keys(options: argparse.Namespace) -> int:
    options.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = Publisher.generate(options.name).save(options.out, _passphrase(options))
    print(f"{path} holds the private key: keep it, and give {path.with_suffix('.pub')} to whoever makes the root")
    return 0


def _new_root(options: argparse.Namespace) -> int:
    expires = _now() + timedelta(days=options.days)
    Repository(options.out).create(new_root([load_public(path) for path in options.public], expires=expires))
    print(f"{options.out}: root 1, valid until {expires:%Y-%m-%d}; two of {len(options.public)} people must sign it")
    return 0


def _pack(options: argparse.Namespace) -> int:
    Repository(options.repo).add(
        options.bundle, options.files, now=_now(), expires=_now() + timedelta(days=options.days)
    )
    print(f"{options.bundle} is listed; two people must sign")
    return 0


def _sign(options: argparse.Namespace) -> int:
    publisher = Publisher.load(options.key, _passphrase(options))
    signed = Repository(options.repo).sign(publisher)
    print(f"{publisher.name} signed: {', '.join(signed) or 'nothing, no signature of this key was missing'}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="isoward-verify-") as folder:
        received = receive(
            options.medium,
            bundle=options.bundle,
            quarantine=Path(folder) / "quarantine",
            trust=initial(options.root.read_bytes()),
            now=_now(),
            progress=lambda _done, _total: None,
            cancelled=lambda: False,
        )
    told = {"digest": received.digest, "name": received.manifest.name, "version": received.manifest.version}
    print(json.dumps(told | {"verdict": received.verdict.to_dict()}, indent=2))
    return 0 if received.verdict.ok else 2


def _pack_evaluation(options: argparse.Namespace) -> int:
    root = evaluation.pack(options.model, options.out)
    print(f"{options.out} is packed and signed; the public root is {root}")
    return _verify(argparse.Namespace(medium=options.out, root=root, bundle=evaluation.NAME))


def _passphrase(options: argparse.Namespace) -> bytes | None:
    return sys.stdin.readline().rstrip("\n").encode("utf-8") if options.passphrase_stdin else None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m provisioning.bundle", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("new-keys", help="make one person's key pair")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--name", required=True)
    command.add_argument("--passphrase-stdin", action="store_true")
    command.set_defaults(run=_new_keys)

    command = commands.add_parser("new-root", help="start a repository")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--public", type=Path, nargs="+", required=True)
    command.add_argument("--days", type=int, default=365)
    command.set_defaults(run=_new_root)

    command = commands.add_parser("pack", help="list a bundle's files, unsigned")
    command.add_argument("--repo", type=Path, required=True)
    command.add_argument("--bundle", required=True)
    command.add_argument("--files", type=Path, required=True)
    command.add_argument("--days", type=int, default=365)
    command.set_defaults(run=_pack)

    command = commands.add_parser("sign", help="add one person's signature")
    command.add_argument("--repo", type=Path, required=True)
    command.add_argument("--key", type=Path, required=True)
    command.add_argument("--passphrase-stdin", action="store_true")
    command.set_defaults(run=_sign)

    command = commands.add_parser("verify", help="what an appliance with this root would answer")
    command.add_argument("--medium", type=Path, required=True)
    command.add_argument("--root", type=Path, required=True)
    command.add_argument("--bundle", required=True)
    command.set_defaults(run=_verify)

    command = commands.add_parser("pack-evaluation", help="the evaluation bundle, with throwaway keys")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=_pack_evaluation)
    return parser


if __name__ == "__main__":
    sys.exit(main())
