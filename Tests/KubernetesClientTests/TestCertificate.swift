/// Certificates for tests only, each its own authority, valid until 2126.
///
/// Made with: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
/// -subj /CN=kubernetes.test -addext subjectAltName=… -addext basicConstraints=critical,CA:TRUE
struct TestCertificate {
    var certificate: String
    var key: String

    /// For localhost, kubernetes.test, 127.0.0.1 and ::1.
    static let here = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBzTCCAXKgAwIBAgIUT+h5Dt7GyGDbVOux/IRX9eP86KkwCgYIKoZIzj0EAwIw
            GjEYMBYGA1UEAwwPa3ViZXJuZXRlcy50ZXN0MCAXDTI2MTEyMDIzNDg1MloYDzIx
            MjYxMDI3MjM0ODUyWjAaMRgwFgYDVQQDDA9rdWJlcm5ldGVzLnRlc3QwWTATBgcq
            hkjOPQIBBggqhkjOPQMBBwNCAASCO169zzUJqguITcpuOnt6M0FIC1UiMTqiQjMA
            venpaf2CsR0+GzW3Y7Zj7BOaQoUkIwFFPmPBAWuukr6opBQ6o4GTMIGQMB0GA1Ud
            DgQWBBSG/ZtKecM8v+bfcFT+a/awQjSiADAfBgNVHSMEGDAWgBSG/ZtKecM8v+bf
            cFT+a/awQjSiADA9BgNVHREENjA0gglsb2NhbGhvc3SCD2t1YmVybmV0ZXMudGVz
            dIcEfwAAAYcQAAAAAAAAAAAAAAAAAAAAATAPBgNVHRMBAf8EBTADAQH/MAoGCCqG
            SM49BAMCA0kAMEYCIQDaZ3WQ1QrQvILO6PwDONHP1TcaKYUnUYYVjqW3rNYhwQIh
            APNMqQJRS3yMCjZi6kRVI9/vtxpTlre8NivK7Jjh1+SL
            -----END CERTIFICATE-----
            """,
        key: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgsN0sR/OohhyH0Q3p
            /ZbaPFnuy10+0aCJscuDrKHTEBGhRANCAASCO169zzUJqguITcpuOnt6M0FIC1Ui
            MTqiQjMAvenpaf2CsR0+GzW3Y7Zj7BOaQoUkIwFFPmPBAWuukr6opBQ6
            -----END PRIVATE KEY-----
            """)

    /// For the name kubernetes.test only.
    static let named = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBpjCCAU2gAwIBAgIUIHrMEqDRzZ3d6YYLLPoElCBkGjQwCgYIKoZIzj0EAwIw
            GjEYMBYGA1UEAwwPa3ViZXJuZXRlcy50ZXN0MCAXDTI2MTEyMDIzNTkzM1oYDzIx
            MjYxMDI3MjM1OTMzWjAaMRgwFgYDVQQDDA9rdWJlcm5ldGVzLnRlc3QwWTATBgcq
            hkjOPQIBBggqhkjOPQMBBwNCAATB2TVYfHMCSyOlFfY7TZQyQyWT5X115B2kyJg+
            fi3aW+rmnCBWPV1xgqht64rpZYluPQtqVolXyJWTBe0GZYQLo28wbTAdBgNVHQ4E
            FgQUzhWMyCnB+uIMJ0WbUIx8qDtefIowHwYDVR0jBBgwFoAUzhWMyCnB+uIMJ0Wb
            UIx8qDtefIowGgYDVR0RBBMwEYIPa3ViZXJuZXRlcy50ZXN0MA8GA1UdEwEB/wQF
            MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgDsXAkc7tYOMRt679jhBL/dkMLggi0qNG
            rmNRBAiq6cwCIE4nLyMbiqe7ADgy+c78gLOoK1mny50ijJameyeOfsV4
            -----END CERTIFICATE-----
            """,
        key: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8N5Lkhh4XyB1cjG0
            qafugEc0Iy3RApkGUkdlGZbLLR2hRANCAATB2TVYfHMCSyOlFfY7TZQyQyWT5X11
            5B2kyJg+fi3aW+rmnCBWPV1xgqht64rpZYluPQtqVolXyJWTBe0GZYQL
            -----END PRIVATE KEY-----
            """)
}
