{{/* The agent's configuration, and what it refers to. */}}

{{/* Keys of the configuration file, by the value that sets them. What is empty is left out: the agent's default holds. */}}
{{- define "k8s-inventory.keys" -}}
k8sInventory.output: output
k8sInventory.quiet: quiet
k8sInventory.verboseInventoryReports: verbose-inventory-reports
k8sInventory.log.structured: log.structured
k8sInventory.log.level: log.level
k8sInventory.anchoreRegistration.RegistrationId: anchore-registration.registration-id
k8sInventory.anchoreRegistration.IntegrationName: anchore-registration.integration-name
k8sInventory.anchoreRegistration.IntegrationDescription: anchore-registration.integration-description
k8sInventory.kubeconfig.path: kubeconfig.path
k8sInventory.kubeconfig.cluster: kubeconfig.cluster
k8sInventory.namespaceSelectors.include: namespace-selectors.include
k8sInventory.namespaceSelectors.exclude: namespace-selectors.exclude
k8sInventory.namespaceSelectors.ignoreEmpty: namespace-selectors.ignore-empty
k8sInventory.namespaces: namespaces
k8sInventory.pollingIntervalSeconds: polling-interval-seconds
k8sInventory.healthReportIntervalSeconds: health-report-interval-seconds
k8sInventory.kubernetesRequestTimeoutSeconds: kubernetes-request-timeout-seconds
k8sInventory.kubernetes.requestTimeoutSeconds: kubernetes.request-timeout-seconds
k8sInventory.kubernetes.requestBatchSize: kubernetes.request-batch-size
k8sInventory.kubernetes.workerPoolSize: kubernetes.worker-pool-size
k8sInventory.missingTagPolicy.policy: missing-tag-policy.policy
k8sInventory.missingTagPolicy.tag: missing-tag-policy.tag
k8sInventory.missingRegistryOverride: missing-registry-override
k8sInventory.ignoreNotRunning: ignore-not-running
k8sInventory.accountRouteByNamespaceLabel.key: account-route-by-namespace-label.key
k8sInventory.accountRouteByNamespaceLabel.defaultAccount: account-route-by-namespace-label.default-account
k8sInventory.accountRouteByNamespaceLabel.ignoreNamespaceMissingLabel: account-route-by-namespace-label.ignore-namespace-missing-label
k8sInventory.metadataCollection.nodes.annotations: metadata-collection.nodes.annotations
k8sInventory.metadataCollection.nodes.labels: metadata-collection.nodes.labels
k8sInventory.metadataCollection.nodes.disable: metadata-collection.nodes.disable
k8sInventory.metadataCollection.namespaces.annotations: metadata-collection.namespaces.annotations
k8sInventory.metadataCollection.namespaces.labels: metadata-collection.namespaces.labels
k8sInventory.metadataCollection.namespaces.disable: metadata-collection.namespaces.disable
k8sInventory.metadataCollection.pods.annotations: metadata-collection.pods.annotations
k8sInventory.metadataCollection.pods.labels: metadata-collection.pods.labels
k8sInventory.metadataCollection.pods.disable: metadata-collection.pods.disable
k8sInventory.inventoryReportLimits.namespaces: inventory-report-limits.namespaces
k8sInventory.inventoryReportLimits.payloadThresholdBytes: inventory-report-limits.payload-threshold-bytes
k8sInventory.anchore.url: anchore.url
k8sInventory.anchore.user: anchore.user
k8sInventory.anchore.account: anchore.account
k8sInventory.anchore.http.insecure: anchore.http.insecure
k8sInventory.anchore.http.timeoutSeconds: anchore.http.timeout-seconds
{{- end }}

{{/* The configuration file. The password is not in it: its variable sets it. */}}
{{- define "k8s-inventory.config" -}}
{{- $config := dict -}}
{{- range $path, $key := include "k8s-inventory.keys" . | fromYaml -}}
  {{- $value := $.Values -}}
  {{- range splitList "." $path -}}{{- $value = get $value . -}}{{- end -}}
  {{- if not (or (kindIs "invalid" $value) (eq (toString $value) "") (and (kindIs "slice" $value) (not $value))) -}}
    {{- include "k8s-inventory.put" (dict "into" $config "key" $key "value" $value "path" $path) -}}
  {{- end -}}
{{- end -}}
{{- $own := dict -}}
{{- $_ := set $own "mode" (.Values.periodic | ternary "periodic" "adhoc") -}}
{{- if get .Values.k8sInventory.namespaceSelectors "ignore-empty" -}}{{- $_ := set $own "namespace-selectors.ignore-empty" true -}}{{- end -}}
{{- with include "k8s-inventory.logFile" . -}}{{- $_ := set $own "log.file" . -}}{{- end -}}
{{- with include "k8s-inventory.caFile" . -}}{{- $_ := set $own "anchore.http.ca-file" . -}}{{- end -}}
{{- if .Values.clientCertificate.existingSecret -}}
  {{- $_ := set $own "anchore.http.client-cert-file" "/etc/anchore-k8s-inventory/client/tls.crt" -}}
  {{- $_ := set $own "anchore.http.client-key-file" "/etc/anchore-k8s-inventory/client/tls.key" -}}
{{- end -}}
{{- if .Values.periodic -}}
  {{- $_ := set $own "admin.listen" "0.0.0.0:8080" -}}
  {{- $_ := set $own "state.directory" "/var/lib/anchore-k8s-inventory/spool" -}}
  {{- $bytes := include "k8s-inventory.bytes" (.Values.spool.size | default "1Gi") -}}
  {{- $_ := set $own "spool.max-bytes" (mulf (float64 $bytes) 0.8 | floor | max 1) -}}
{{- end -}}
{{- if .Values.elects -}}
  {{- $_ := set $own "leader-election.enabled" true -}}
  {{- $_ := set $own "leader-election.lease-name" (include "k8s-inventory.fullname" .) -}}
{{- end -}}
{{- range $key, $value := $own -}}
  {{- include "k8s-inventory.put" (dict "into" $config "key" $key "value" $value "path" $key) -}}
{{- end -}}
{{- with include "k8s-inventory.routes" . | fromYaml -}}{{- $_ := set $config "account-routes" . -}}{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Sets a dotted key in nested maps, texts as literals. */}}
{{- define "k8s-inventory.put" -}}
{{- $map := .into -}}
{{- $keys := splitList "." .key -}}
{{- range initial $keys -}}
  {{- if not (hasKey $map .) -}}{{- $_ := set $map . dict -}}{{- end -}}
  {{- $map = get $map . -}}
{{- end -}}
{{- $value := .value -}}
{{- if kindIs "string" $value -}}
  {{- $value = include "k8s-inventory.literal" (dict "path" .path "text" $value) -}}
{{- else if kindIs "slice" $value -}}
  {{- $value = list -}}
  {{- range .value -}}
    {{- $value = append $value (include "k8s-inventory.literal" (dict "path" $.path "text" .)) -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $map (last $keys) $value -}}
{{- end }}

{{/*
The agent takes a text that is $NAME or ${NAME} as a whole from its environment, and $$NAME as the literal $NAME; a
literal $$NAME cannot be written. Control characters would not survive YAML.
*/}}
{{- define "k8s-inventory.literal" -}}
{{- if regexMatch "[\\x00-\\x08\\x0b-\\x0c\\x0e-\\x1f\\x7f-\\x9f\\x{feff}\\x{fffe}\\x{ffff}]" .text -}}
  {{- fail (printf "%s holds a control character" .path) -}}
{{- else if regexMatch "^\\$\\$([A-Z_][A-Z0-9_]*|\\{[A-Z_][A-Z0-9_]*\\})$" .text -}}
  {{- fail (printf "%s begins with two dollar signs before a name in capitals, which a configuration file cannot say: set it by extraEnv with the key's own variable" .path) -}}
{{- else if regexMatch "^\\$([A-Z_][A-Z0-9_]*|\\{[A-Z_][A-Z0-9_]*\\})$" .text -}}
  {{- printf "$%s" .text -}}
{{- else -}}
  {{- .text -}}
{{- end -}}
{{- end }}

{{/* The account routes of the configuration, passwords as files. */}}
{{- define "k8s-inventory.routes" -}}
{{- $routes := dict -}}
{{- range $account, $given := .Values.k8sInventory.accountRoutes -}}
  {{- $route := dict -}}
  {{- range $key, $field := dict "user" "user" "userFile" "user-file" "passwordFile" "password-file" "namespaces" "namespaces" -}}
    {{- with get $given $key -}}
      {{- include "k8s-inventory.put" (dict "into" $route "key" $field "value" . "path" (printf "k8sInventory.accountRoutes.%s.%s" $account $key)) -}}
    {{- end -}}
  {{- end -}}
  {{- if $given.password -}}
    {{- $_ := set $route "password-file" (printf "/etc/anchore-k8s-inventory/routes/%s" (include "k8s-inventory.routeKey" $account)) -}}
  {{- end -}}
  {{- $_ := set $routes $account $route -}}
{{- end -}}
{{- with $routes -}}{{- toYaml . -}}{{- end -}}
{{- end }}

{{- define "k8s-inventory.caFile" -}}
{{- if .Values.caBundle.inline -}}
/etc/anchore-k8s-inventory/ca/ca.crt
{{- else if or .Values.caBundle.existingConfigMap .Values.caBundle.existingSecret -}}
/etc/anchore-k8s-inventory/ca/{{ .Values.caBundle.key | default "ca.crt" }}
{{- end -}}
{{- end }}

{{/* What the ConfigMap holds. Proxies are here because a variable that is taken from a key is never expanded. */}}
{{- define "k8s-inventory.configMapData" -}}
{{- $data := dict "config.yaml" (printf "%s\n" (include "k8s-inventory.config" .)) -}}
{{- with .Values.caBundle.inline -}}{{- $_ := set $data "ca.crt" . -}}{{- end -}}
{{- with .Values.proxy.https -}}{{- $_ := set $data "HTTPS_PROXY" . -}}{{- end -}}
{{- with .Values.proxy.noProxy -}}{{- $_ := set $data "NO_PROXY" . -}}{{- end -}}
{{- toYaml $data -}}
{{- end }}
