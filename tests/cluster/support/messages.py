"""What a person sees first when something is wrong, word by word.

The tests that produce these words import them from here, and a unit test finds them in the page on failures; so the
page holds what kubelets, clients and Pulumi really say.
"""

# Kubelets, in the events and the status of a pod.
UNTRUSTED = "x509: certificate signed by unknown authority"
OF_SOMETHING_ELSE = "x509: certificate is valid for"
NO_LOGIN = ("401 Unauthorized", "no basic auth credentials")
NOT_FOUND = ": not found"
OTHER_PROCESSOR = "no match for platform in manifest"
EXEC_FORMAT = "exec format error"
NO_SUCH_HOST = "no such host"
REFUSED = "connection refused"
TOO_MANY = "429 Too Many Requests"

# Clients.
UNAUTHORIZED = "UNAUTHORIZED: authentication required"
MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN: manifest unknown"
NAME_UNKNOWN = "NAME_UNKNOWN: repository name not known to registry"
NO_SPACE = "no space left on device"
STORAGE_FULL = "DENIED: the storage of the registry is full"
SPACE_IS_FREED = "UNAVAILABLE: nothing can be pushed or deleted while space is freed"
UPLOAD_UNKNOWN = "blob upload unknown to registry"
BLOB_UNKNOWN = "blob unknown to registry"

# Pulumi.
LOCKED = "the stack is currently locked"
UNREACHABLE = "configured Kubernetes cluster is unreachable"
