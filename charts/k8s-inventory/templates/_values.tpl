{{/*
What values are. Every scalar value has a row here: its path, and what it may be. The schema says the same to editors
and refuses unknown keys; this is what gives each value its type, so that "false" is false and "60" is 60.

  text            a text; numbers and booleans are taken as theirs
  boolean         true or false, also as text, in the spellings that the agent knows
  integer A B     a whole number from A to B, also as text; where A is 0, a negative one is 0, as for the agent
  word A B ...    one of these, in any case
  list            a list of texts; a single text is split at commas
  keys            a list of keys; what holds blanks is several of them, for the agent as well
  texts           a map of texts
*/}}
{{- define "k8s-inventory.kinds" -}}
replicaCount: integer 0 1000
image.repository: text
image.tag: text
image.digest: text
image.pullPolicy: word Always IfNotPresent Never
nameOverride: text
fullnameOverride: text
labels: texts
annotations: texts
podLabels: texts
podAnnotations: texts
nodeSelector: texts
serviceAccount.create: boolean
serviceAccount.annotations: texts
serviceAccount.name: text
injectSecretsViaEnv: boolean
useExistingSecret: boolean
existingSecretName: text
service.type: word ClusterIP NodePort LoadBalancer
service.port: integer 1 65535
probes.liveness.initialDelaySeconds: integer 0 86400
probes.liveness.timeoutSeconds: integer 1 86400
probes.liveness.periodSeconds: integer 1 86400
probes.liveness.failureThreshold: integer 1 86400
probes.liveness.successThreshold: integer 1 1
probes.readiness.initialDelaySeconds: integer 0 86400
probes.readiness.timeoutSeconds: integer 1 86400
probes.readiness.periodSeconds: integer 1 86400
probes.readiness.failureThreshold: integer 1 86400
probes.readiness.successThreshold: integer 1 86400
probes.startup.timeoutSeconds: integer 1 86400
probes.startup.periodSeconds: integer 1 86400
probes.startup.failureThreshold: integer 1 86400
priorityClassName: text
terminationGracePeriodSeconds: integer 0 86400
revisionHistoryLimit: integer 0 2147483647
rbac.create: boolean
rbac.scope: word cluster namespaces
cronjob.schedule: text
cronjob.concurrencyPolicy: word Allow Forbid Replace
cronjob.backoffLimit: integer 0 2147483647
cronjob.historyLimits.successful: integer 0 2147483647
cronjob.historyLimits.failed: integer 0 2147483647
caBundle.inline: text
caBundle.existingConfigMap: text
caBundle.existingSecret: text
caBundle.key: text
clientCertificate.existingSecret: text
proxy.https: text
proxy.noProxy: text
spool.size: text
spool.persistence.enabled: boolean
spool.persistence.storageClassName: text
spool.persistence.accessModes: list
spool.persistence.existingClaim: text
networkPolicy.enabled: boolean
networkPolicy.anchorePort: integer 1 65535
networkPolicy.apiServerCIDR: text
serviceMonitor.enabled: boolean
k8sInventory.output: word json table images
k8sInventory.quiet: boolean
k8sInventory.verboseInventoryReports: boolean
k8sInventory.log.structured: boolean
k8sInventory.log.level: word trace debug info warn warning error panic fatal
k8sInventory.log.file: text
k8sInventory.anchoreRegistration.RegistrationId: text
k8sInventory.anchoreRegistration.IntegrationName: text
k8sInventory.anchoreRegistration.IntegrationDescription: text
k8sInventory.kubeconfig.path: text
k8sInventory.kubeconfig.cluster: text
k8sInventory.namespaceSelectors.include: list
k8sInventory.namespaceSelectors.exclude: list
k8sInventory.namespaceSelectors.ignoreEmpty: boolean
k8sInventory.namespaceSelectors.ignore-empty: boolean
k8sInventory.namespaces: list
k8sInventory.mode: word adhoc periodic
k8sInventory.pollingIntervalSeconds: integer 1 31536000
k8sInventory.healthReportIntervalSeconds: integer 30 600
k8sInventory.kubernetesRequestTimeoutSeconds: integer 0 86400
k8sInventory.kubernetes.requestTimeoutSeconds: integer 1 86400
k8sInventory.kubernetes.requestBatchSize: integer 0 4294967295
k8sInventory.kubernetes.workerPoolSize: integer 1 4294967295
k8sInventory.missingTagPolicy.policy: word digest insert dummy drop
k8sInventory.missingTagPolicy.tag: text
k8sInventory.missingRegistryOverride: text
k8sInventory.ignoreNotRunning: boolean
k8sInventory.accountRouteByNamespaceLabel.key: text
k8sInventory.accountRouteByNamespaceLabel.defaultAccount: text
k8sInventory.accountRouteByNamespaceLabel.ignoreNamespaceMissingLabel: boolean
k8sInventory.metadataCollection.nodes.annotations: keys
k8sInventory.metadataCollection.nodes.labels: keys
k8sInventory.metadataCollection.nodes.disable: boolean
k8sInventory.metadataCollection.namespaces.annotations: keys
k8sInventory.metadataCollection.namespaces.labels: keys
k8sInventory.metadataCollection.namespaces.disable: boolean
k8sInventory.metadataCollection.pods.annotations: keys
k8sInventory.metadataCollection.pods.labels: keys
k8sInventory.metadataCollection.pods.disable: boolean
k8sInventory.inventoryReportLimits.namespaces: integer 0 9007199254740991
k8sInventory.inventoryReportLimits.payloadThresholdBytes: integer 0 9007199254740991
k8sInventory.anchore.url: text
k8sInventory.anchore.user: text
k8sInventory.anchore.password: text
k8sInventory.anchore.account: text
k8sInventory.anchore.http.insecure: boolean
k8sInventory.anchore.http.timeoutSeconds: integer 0 86400
{{- end }}

{{/*
The values as JSON, for `fromJson`: without nulls, with all maps there, and each value of its type. Every template
begins with them in place of its values. Fails on what cannot be rendered as it was meant.
*/}}
{{- define "k8s-inventory.values" -}}
{{- $values := get (include "k8s-inventory.pruned" .Values | fromJson) "value" -}}
{{- range $path, $rule := include "k8s-inventory.kinds" . | fromYaml -}}
  {{- $map := $values -}}
  {{- $keys := splitList "." $path -}}
  {{- range initial $keys -}}
    {{- if not (kindIs "map" (get $map .)) -}}{{- $_ := set $map . dict -}}{{- end -}}
    {{- $map = get $map . -}}
  {{- end -}}
  {{- if hasKey $map (last $keys) -}}
    {{- $typed := include "k8s-inventory.typed" (dict "path" $path "rule" $rule "value" (get $map (last $keys))) -}}
    {{- $_ := set $map (last $keys) (get ($typed | fromJson) "value") -}}
  {{- end -}}
{{- end -}}
{{- $routes := dict -}}
{{- range $account, $route := $values.k8sInventory.accountRoutes -}}
  {{- $path := printf "k8sInventory.accountRoutes.%s" $account -}}
  {{- $typedRoute := dict -}}
  {{- range $key, $value := $route -}}
    {{- $rule := eq $key "namespaces" | ternary "list" "text" -}}
    {{- $typed := include "k8s-inventory.typed" (dict "path" (printf "%s.%s" $path $key) "rule" $rule "value" $value) -}}
    {{- $_ := set $typedRoute $key (get ($typed | fromJson) "value") -}}
  {{- end -}}
  {{- $_ := set $routes $account $typedRoute -}}
{{- end -}}
{{- /* A route that is null is an account without anything of its own. */ -}}
{{- range $account, $_ := default dict (default dict .Values.k8sInventory).accountRoutes -}}
  {{- if not (hasKey $routes $account) -}}{{- $_ := set $routes $account dict -}}{{- end -}}
{{- end -}}
{{- $_ := set $values.k8sInventory "accountRoutes" $routes -}}
{{- $periodic := ne (toString $values.k8sInventory.mode) "adhoc" -}}
{{- $_ := set $values "periodic" $periodic -}}
{{- $_ := set $values "elects" (and $periodic (gt (int $values.replicaCount) 1)) -}}
{{- $_ := set $values "persistent" (and $periodic (eq (toString $values.spool.persistence.enabled) "true")) -}}
{{- $_ := include "k8s-inventory.contexts" (dict "values" $values "given" .Values.podSecurityContext) -}}
{{- include "k8s-inventory.check" (dict "Values" $values "Release" .Release "Chart" .Chart) -}}
{{- toJson $values -}}
{{- end }}

{{/* A value without the nulls in it, as the JSON of a map that holds it. */}}
{{- define "k8s-inventory.pruned" -}}
{{- $kept := . -}}
{{- if kindIs "map" . -}}
  {{- $kept = dict -}}
  {{- range $key, $value := . -}}
    {{- if not (kindIs "invalid" $value) -}}
      {{- $_ := set $kept $key (get (include "k8s-inventory.pruned" $value | fromJson) "value") -}}
    {{- end -}}
  {{- end -}}
{{- else if kindIs "slice" . -}}
  {{- $kept = list -}}
  {{- range . -}}
    {{- if not (kindIs "invalid" .) -}}
      {{- $kept = append $kept (get (include "k8s-inventory.pruned" . | fromJson) "value") -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- dict "value" $kept | toJson -}}
{{- end }}

{{/* A value as its rule says, as the JSON of a map that holds it. Takes its path, rule and value. */}}
{{- define "k8s-inventory.typed" -}}
{{- $words := splitList " " .rule -}}
{{- $kind := first $words -}}
{{- $typed := "" -}}
{{- if eq $kind "text" -}}
  {{- $typed = include "k8s-inventory.text" . -}}
{{- else if has $kind (list "list" "keys") -}}
  {{- $items := list -}}
  {{- if kindIs "slice" .value -}}
    {{- range .value -}}
      {{- $items = append $items (include "k8s-inventory.text" (dict "path" $.path "value" .)) -}}
    {{- end -}}
  {{- else -}}
    {{- range splitList "," (include "k8s-inventory.text" .) -}}{{- $items = append $items (trim .) -}}{{- end -}}
  {{- end -}}
  {{- if eq $kind "keys" -}}{{- $items = regexSplit "\\s+" (join " " $items) -1 -}}{{- end -}}
  {{- $typed = without $items "" -}}
{{- else if eq $kind "texts" -}}
  {{- if not (kindIs "map" .value) -}}{{- fail (printf "%s must be a map" .path) -}}{{- end -}}
  {{- $typed = dict -}}
  {{- range $key, $value := .value -}}
    {{- $text := include "k8s-inventory.text" (dict "path" (printf "%s.%s" $.path $key) "value" $value) -}}
    {{- $_ := set $typed $key $text -}}
  {{- end -}}
{{- else -}}
  {{- $text := include "k8s-inventory.text" . | trim -}}
  {{- if eq $text "" -}}
    {{- /* An empty text sets nothing, as for the agent. */ -}}
  {{- else if eq $kind "boolean" -}}
    {{- $yes := list "true" "t" "yes" "y" "on" "1" -}}
    {{- if not (has (lower $text) (concat $yes (list "false" "f" "no" "n" "off" "0"))) -}}
      {{- fail (printf "%s is neither true nor false" .path) -}}
    {{- end -}}
    {{- $typed = has (lower $text) $yes -}}
  {{- else if eq $kind "integer" -}}
    {{- $typed = include "k8s-inventory.integer" (dict "path" .path "text" $text "min" (index $words 1) "max" (index $words 2)) | float64 -}}
  {{- else if eq $kind "word" -}}
    {{- range rest $words -}}
      {{- if eq (lower .) (lower $text) -}}{{- $typed = . -}}{{- end -}}
    {{- end -}}
    {{- if not $typed -}}{{- fail (printf "%s must be one of %s" .path (rest $words | join ", ")) -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- dict "value" $typed | toJson -}}
{{- end }}

{{/*
A text. Helm reads numbers as floating-point ones before a chart sees them, so a long number that was not quoted has
lost digits: refused, not rendered wrongly.
*/}}
{{- define "k8s-inventory.text" -}}
{{- if kindIs "string" .value -}}
  {{- .value -}}
{{- else if kindIs "bool" .value -}}
  {{- .value -}}
{{- else if or (kindIs "map" .value) (kindIs "slice" .value) -}}
  {{- fail (printf "%s must be a text, not a map or a list" .path) -}}
{{- else if ne (floor .value) (float64 .value) -}}
  {{- toJson .value -}}
{{- else if or (gt (float64 .value) 9007199254740991.0) (lt (float64 .value) -9007199254740991.0) -}}
  {{- fail (printf "%s is a number with more digits than Helm keeps: write it in quotes (on the command line with --set-string)" .path) -}}
{{- else -}}
  {{- float64 .value | printf "%.0f" -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.integer" -}}
{{- $expected := printf "%s must be a whole number from %s to %s" .path .min .max -}}
{{- if not (regexMatch "^[+-]?(0|[1-9][0-9]*)(\\.[0-9]*)?([eE][+]?[0-9]{1,2})?$" .text) -}}{{- fail $expected -}}{{- end -}}
{{- $number := float64 .text -}}
{{- if and (eq .min "0") (lt $number 0.0) -}}{{- $number = 0.0 -}}{{- end -}}
{{- if or (ne (floor $number) $number) (lt $number (float64 .min)) (gt $number (float64 .max)) -}}{{- fail $expected -}}{{- end -}}
{{- printf "%.0f" $number -}}
{{- end }}

{{/*
Security contexts: `fsGroup` where a claim must be writable, unless the key was given, null included. What the defaults
say is left out where it contradicts the user: `runAsNonRoot` beside a user 0, with which no pod would start, and
`allowPrivilegeEscalation: false` beside privileges, which the API server refuses.
*/}}
{{- define "k8s-inventory.contexts" -}}
{{- $values := .values -}}
{{- $pod := default dict $values.podSecurityContext -}}
{{- $container := default dict $values.securityContext -}}
{{- if and $values.persistent .given (not (hasKey (default dict .given) "fsGroup")) -}}{{- $_ := set $pod "fsGroup" 1000 -}}{{- end -}}
{{- $user := get $pod "runAsUser" -}}
{{- if hasKey $container "runAsUser" -}}{{- $user = get $container "runAsUser" -}}{{- end -}}
{{- if eq (toString $user) "0" -}}
  {{- $pod = omit $pod "runAsNonRoot" -}}
  {{- $container = omit $container "runAsNonRoot" -}}
  {{- $_ := set $values "runsAsRoot" true -}}
{{- end -}}
{{- $added := default list (default dict $container.capabilities).add -}}
{{- if or $container.privileged (has "SYS_ADMIN" $added) (has "CAP_SYS_ADMIN" $added) -}}
  {{- $container = omit $container "allowPrivilegeEscalation" -}}
{{- end -}}
{{- $_ := set $values "podSecurityContext" $pod -}}
{{- $_ := set $values "securityContext" $container -}}
{{- end }}
