module tenantry.io/tests/cnpg

go 1.24

require github.com/cloudnative-pg/cloudnative-pg v1.27.0
